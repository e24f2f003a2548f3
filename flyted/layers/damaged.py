"""Defines the error that refuses an archive or a stage, and how a name out of one is shown."""

from __future__ import annotations


class Damaged(Exception):
    """The error of an archive or a stage that is not read any further: ``str()`` says why, without its name."""


def printable(name: bytes) -> str:
    """Return a name out of an archive as printable ASCII of at most 80 characters, for a message."""
    text = ascii(name.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 80 else f"{text[:38]}...{text[-39:]}"
