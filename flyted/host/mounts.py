"""Reads which file systems are mounted, as flyted's own mount namespace has them: the machine's are among them."""

from __future__ import annotations

from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")


def mounts() -> str:
    """Return the text of proc_pid_mountinfo(5)."""
    return _MOUNTS.read_text(errors="replace")
