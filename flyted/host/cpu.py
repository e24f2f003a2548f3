"""Reads how much CPU time services have used. Source: cpu.stat in the kernel's cgroup-v2.rst."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

APPS = Path("/sys/fs/cgroup/flyted.slice/flyted-apps.slice")
"""The control group of the services of apps (``Slice=`` in plan/units.py)."""


def cpu_s(names: Iterable[str], apps: Path = APPS) -> dict[str, float]:
    """Return the seconds of CPU time that each of these apps' services has used since its start, if it runs.

    ``apps``: the folder with their control groups.
    """
    found = {}
    for name in names:
        with contextlib.suppress(OSError, ValueError, IndexError):
            found[name] = int((apps / name / "cpu.stat").read_text().split()[1]) / 1e6
    return found
