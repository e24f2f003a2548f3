"""The machine's memory, and what it has for apps."""

from __future__ import annotations

import os

from flyted.plan.facts import Capacity


def memory_bytes() -> int:
    """All of it, used or not: sysconf(3), as psutil and the engines read it."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def capacity() -> Capacity:
    """Memory and processors of the machine."""
    return Capacity(memory_bytes(), os.cpu_count() or 1)
