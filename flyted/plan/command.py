"""Writes an app's command as options of launch, with marks where launch puts in the values of variables. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flyted.contract.fserve import split
from flyted.contract.shell import Word, read
from flyted.launch import words


def options(command: Sequence[str]) -> Iterator[str]:
    """Yield the command as launch's last options, with fserve's arguments read as Flyte's shell would read them.

    ``--shell``: a line for ``sh``, with its variables unchanged. After ``--quoted``: the command; its words after
    fserve's ``--`` are templates (launch/expand.py).
    """
    head, args = split(command)
    if not head or not args:
        yield from (words.QUOTED, *(words.quote(word) for word in command))
        return
    line = read(args)
    if line.syntax:
        yield from (words.SHELL, words.quote(line.text))
    yield from (words.QUOTED, *(words.quote(word) for word in head), *(template(word) for word in line.words))


def template(word: Word) -> str:
    """Return a word with its variables marked for launch."""
    if not any(piece.name or piece.text for piece in word):
        return words.NOTHING
    return "".join(
        words.variable(piece.name, split=piece.split) if piece.name else words.quote(piece.text) or words.NOTHING
        for piece in word
    )
