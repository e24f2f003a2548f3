"""A command on its way to launch, with its variables marked for launch to put in. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flyted.contract.fserve import split
from flyted.contract.shell import Word, read


def options(command: Sequence[str]) -> Iterator[str]:
    """The command as launch's last options; the arguments of fserve are read here as Flyte's shell would read them.

    ``--shell``: a line for ``sh``, with its variables as they stand. After ``--quoted``: the command, whose words that
    follow fserve's ``--`` are templates (launch/expand.py).
    """
    head, args = split(command)
    if not head or not args:
        yield from ("--quoted", *(quote(word) for word in command))
        return
    line = read(args)
    if line.syntax:
        yield from ("--shell", quote(line.text))
    yield from ("--quoted", *(quote(word) for word in head), *(template(word) for word in line.words))


def template(word: Word) -> str:
    """A word with its variables marked for launch."""
    if not any(piece.name or piece.text for piece in word):
        return "%{}"
    marks = ("%{{{}}}", "%[{}]")
    return "".join(
        marks[piece.split].format(piece.name) if piece.name else quote(piece.text) or "%{}" for piece in word
    )


def quote(word: str) -> str:
    """A word in which nothing looks like a mark; launch takes it back."""
    return word.replace("%", "%25")
