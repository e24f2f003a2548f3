"""Reports the machine's memory and processors."""

from __future__ import annotations

import os

from flyted.plan.facts import Capacity


def memory_bytes() -> int:
    """Return the bytes of all memory, used or not: sysconf(3), as psutil and the engines read it."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def capacity() -> Capacity:
    """Return the memory and the number of processors of the machine."""
    return Capacity(memory_bytes(), os.cpu_count() or 1)
