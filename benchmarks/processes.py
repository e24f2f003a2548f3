"""The processes of units, and the memory that they take."""

from __future__ import annotations

import subprocess
from pathlib import Path


def main_process(unit: str) -> int:
    """Return the main process of a unit."""
    words = ["systemctl", "show", "--value", "--property=MainPID", unit]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
