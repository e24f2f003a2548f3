"""Defines how a step ends badly: with one line for people, and an exit status (words.py) for the daemon."""

from __future__ import annotations

import os

from .words import OURS


class Failed(Exception):
    """The error that ends a step: ``str()`` is the line to show, ``status`` the exit status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def say(text: str) -> None:
    """Print one line for the step's log. It is written in one piece, since several processes print lines."""
    os.write(1, f"{OURS}{text}\n".encode(errors="backslashreplace"))
