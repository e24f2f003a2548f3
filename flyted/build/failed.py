"""Defines the error that ends a build: one line for people, and an exit status (sysexits.h) for the daemon."""

from __future__ import annotations

from .words import EX_ISOLATED, OURS


class Failed(Exception):
    """The error that ends a build: ``str()`` is the line to show, ``status`` the exit status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NeedsSource(Failed):
    """The error of a build that would have to run a package's code, but can write files that other images use."""

    def __init__(self, message: str) -> None:
        super().__init__(EX_ISOLATED, message)


def say(text: str) -> None:
    """Print one line for the build's log, flushed so that it comes before uv's next output."""
    print(f"{OURS}{text}", flush=True)  # noqa: T201
