"""Reports how much space is free on the disks that flyted and apps write to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from flyted.contract.errors import HostFailure


def is_folder(path: str) -> bool:
    """Report whether there is such a folder, even one that flyted may not look into."""
    return Path(path).is_dir()


def app_folders(below: Path) -> list[str]:
    """Return the names of the folders in which apps keep data."""
    return [folder.name for folder in below.glob("flyted-app-*")]


def disk_space(folder: Path) -> tuple[int, int]:
    """Return the bytes that a user without privileges may still write on the disk of a folder, and the disk's size."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def used_bytes(folder: Path) -> int:
    """Return the bytes of the disk that the files below a folder take, as far as flyted may look; 0 without one."""
    found = 0
    for path, _folders, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += os.lstat(f"{path}/{name}").st_blocks * 512  # the unit of stat(2)
    return found


def free_bytes(folders: Iterable[str]) -> dict[str, int]:
    """Return the bytes that a user without privileges may still write, by the first folder of each file system.

    Raises :class:`HostFailure` for a folder that is not there.
    """
    free: dict[str, int] = {}
    seen: set[int] = set()
    for folder in folders:
        try:
            device, disk = Path(folder).stat().st_dev, os.statvfs(folder)
        except OSError as error:
            raise HostFailure(f"cannot determine the free space of {folder}: {error.strerror}") from error
        if device not in seen:
            seen.add(device)
            free[folder] = disk.f_bavail * disk.f_frsize
    return free
