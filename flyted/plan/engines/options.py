"""The options in a program's arguments. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def options_of(words: Iterable[str]) -> frozenset[str]:
    """Returns the options among the words, of ``--host X`` and ``--host=X``, with ``-`` for ``_`` as vLLM has it."""
    return frozenset(word.partition("=")[0].replace("_", "-") for word in words)


def has_option(words: Iterable[str], *options: str) -> bool:
    """Returns whether one of the options is among the words."""
    return not options_of(words).isdisjoint(options)
