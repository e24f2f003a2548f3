"""Defines the one error with which launch gives up on purpose: a line on stderr and an exit status."""

from __future__ import annotations

from .words import EX_CONFIG


class Refused(Exception):
    """An error: the app cannot be started. The text says why, and never contains a secret's value."""

    def __init__(self, why: str, status: int = EX_CONFIG) -> None:
        super().__init__(why)
        self.status = status
