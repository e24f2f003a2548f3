"""Finds the options in a program's arguments. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def options_of(words: Iterable[str]) -> frozenset[str]:
    """Return the options among the words, written ``--host X`` or ``--host=X``, with ``_`` as ``-``, as vLLM does."""
    return frozenset(word.partition("=")[0].replace("_", "-") for word in words)


def has_option(words: Iterable[str], *options: str) -> bool:
    """Report whether one of the options is among the words."""
    return not options_of(words).isdisjoint(options)
