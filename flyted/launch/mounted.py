"""Refuses a start without the app's volumes, whose folders PID 1 leaves out when they are missing on the machine."""

from __future__ import annotations

from collections.abc import Iterable

from .refused import Refused


def check(volumes: Iterable[str]) -> None:
    """Raise ``Refused`` unless each volume, ``NAME:PATH:FOLDER``, is mounted at its path.

    The path alone does not say: the folder may be on the same file system as what it covers.
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        there = {line.split(" ")[4] for line in mounts}
    for volume in volumes:
        name, path, folder = volume.split(":", 2)
        if path not in there:
            raise Refused(f"volume '{name}' is not there: this machine has no folder {folder} (flytectl volume ls)")
