"""Reports the machine's memory and processors. Sources: sysconf(3), proc(5)."""

from __future__ import annotations

import os
from pathlib import Path

from flyted.plan.facts import Capacity


def memory_bytes() -> int:
    """Return the bytes of all memory, used or not: sysconf(3), as psutil and the engines read it."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes of memory that programs can get without swapping (MemAvailable); ``None`` if not known."""
    try:
        lines = meminfo.read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def capacity() -> Capacity:
    """Return the memory and the number of processors of the machine."""
    return Capacity(memory_bytes(), os.cpu_count() or 1)
