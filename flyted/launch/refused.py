"""The one way in which launch gives up on purpose: a line on stderr and an exit status that systemd knows."""

from __future__ import annotations

EX_CANTCREAT = 73
EX_TEMPFAIL = 75  # a later start may do
EX_CONFIG = 78  # sysexits.h; a restart cannot help, so flyted does not try


class Refused(Exception):
    """The app cannot be started; the text says what is wrong and never holds a secret's value."""

    def __init__(self, why: str, status: int = EX_CONFIG) -> None:
        super().__init__(why)
        self.status = status
