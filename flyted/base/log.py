"""Sets logging up for systemd's journal. Apart from ``sd``, since logging is slow to import."""

from __future__ import annotations

import logging

_LEVELS = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def to_journal(level: int) -> None:
    """Log to stderr what is of ``level`` or above, each entry with its level first (sd-daemon(3))."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Journal("%(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


class _Journal(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"<{_LEVELS.get(record.levelno, 6)}>{super().format(record)}"
