"""The machine's memory."""

from __future__ import annotations

import os


def memory_bytes() -> int:
    """All of it, used or not: sysconf(3), as psutil and the engines read it."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
