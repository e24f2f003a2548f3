"""Defines how a pull ends badly: with one line for people, and an exit status (words.py) for the daemon."""

from __future__ import annotations

import os

from .words import EX_UNAVAILABLE, OURS


class Failed(Exception):
    """The error that ends a pull: ``str()`` is the line to show, ``status`` the exit status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unavailable(Failed):
    """A failure that may pass: the request may be made again, not sooner than after ``wait`` seconds."""

    def __init__(self, message: str, wait: float = 0) -> None:
        super().__init__(EX_UNAVAILABLE, message)
        self.wait = wait


class Untrusted(Failed):
    """A server whose certificate no authority has signed that the machine trusts."""

    def __init__(self, message: str) -> None:
        super().__init__(EX_UNAVAILABLE, message)


def say(text: str) -> None:
    """Print one line for the pull's log. Not by ``print``, since several threads print lines."""
    os.write(1, f"{OURS}{text}\n".encode(errors="backslashreplace"))


def printable(value: object, most: int = 200) -> str:
    """Return a text that came from elsewhere as printable ASCII of at most ``most`` characters."""
    text = ascii(value)[1:-1] if isinstance(value, str) else ascii(value)
    return text if len(text) <= most else f"{text[: most // 2]}...{text[3 - most // 2 :]}"
