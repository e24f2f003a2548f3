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
    """Print one line for whoever watches the step. It is written at once: several processes of the program speak."""
    os.write(1, f"{OURS}{text}\n".encode(errors="backslashreplace"))
