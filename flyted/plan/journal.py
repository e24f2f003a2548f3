"""What decisions see of the journal. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LogLine:
    """One line of the journal. ``source`` is ``app`` or ``systemd``; ``time`` is in microseconds since the epoch."""

    time: int
    revision: int
    source: str
    text: str
