"""Tries to make a file in every folder that it can reach on a file system that is not read-only.

Runs inside the confinement that is tested. ``found()`` returns the topmost folders where it worked.
"""

from __future__ import annotations

import os
from pathlib import Path


def found() -> list[str]:
    """Folders in which this process can make files; nothing is left behind."""
    places: set[str] = set()
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1].encode().decode("unicode_escape") for line in mounts]
    for point in points:
        if not point.startswith(("/proc", "/sys")):
            places |= set(_below(point))
    return sorted(place for place in places if not any(place.startswith(f"{other}/") for other in places))


def _below(point: str) -> list[str]:
    made = []
    for folder, names, _ in os.walk(point):
        names[:] = [name for name in names if not Path(folder, name).is_mount()]
        if _can_write(folder):
            made.append(folder)
        if _read_only(folder):
            break
    return made


def _can_write(folder: str) -> bool:
    path = Path(folder, f".walker-{os.getpid()}")
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        path.unlink()
    except OSError:
        return False
    return True


def _read_only(folder: str) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False
