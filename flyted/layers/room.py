"""Watches how much disk space a step uses, since ordinary file systems have no limits per folder.

The program does so also where the file system has project quotas (``prjquota``). It checks the free space four times
a second, and counts a layer's files only when the free space has shrunk by the limit. A quota would make the write
itself fail; it was tried on ext4 of Linux 6.12, and it holds: what goes through a step's overlay ends at the limit,
files copied up count, and root of the step's namespace can change neither a project's limit (EPERM) nor a file's
project (EINVAL).

The price would be a program with CAP_SYS_ADMIN and real root's rights before and after each step, on files of
strangers, where now no part of a build has any. Project ids have no registry, and Docker and LXD take theirs as they
like; a file keeps its id, so each layer would hold one as long as it exists, or all its files would be walked. And
statvfs(2) of a layer's folder would report the quota, by which the watch would kill. The gain: what a disk takes in a
quarter of a second (a step cannot reserve space without writing it: seccomp.py), on the few machines that have quotas,
and where the watch keeps 1 GiB free in any case. What would change this decision: a file system that limits folders
without privileges.

du(1) does not see a file that is open and has no name any more: a step can hold more than the limit in such files
while it runs, up to the space that is kept free for the machine. They are gone when it ends.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from .failed import Failed
from .words import EX_FULL

LOOK_S = 0.25
"""Seconds between two looks at the disk."""


@dataclass(frozen=True)
class Limits:
    """What a layer may take: bytes, files, and how many bytes have to stay free for the machine."""

    layer_bytes: int
    layer_files: int
    keep_free: int


class Room:
    """The disk of one layer.

    To count its files takes long, so that is done only when the disk has become that much fuller.
    """

    def __init__(self, folder: str, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._bytes, self._files = _free(folder)

    def check(self) -> None:
        """Raise :class:`Failed` if the layer has become too large, or the disk too full.

        The step goes on while its files are counted. That it cannot be stopped for so long is no way out: what it
        writes meanwhile is free space that is missing at the next look, and the machine's own is watched throughout.
        """
        free, files = _free(self._folder)
        if free < self._limits.keep_free:
            raise self._disk_full()
        self._bytes, self._files = max(self._bytes, free), max(self._files, files)  # another program freed some
        more, more_files = self._bytes - free, self._files - files
        if more <= self._limits.layer_bytes and more_files <= self._limits.layer_files:
            return
        size, count = self.taken()
        self._bytes, self._files = free + size, files + count  # another program used the space

    def taken(self) -> tuple[int, int]:
        """Return the bytes and files that the layer has. Raises :class:`Failed` if these are more than it may have.

        A finished layer is always counted: space that other programs freed meanwhile can hide what it wrote.
        """
        size, count = self._counted(), self._counted("--inodes")
        if size > self._limits.layer_bytes:
            raise Failed(EX_FULL, f"killed: it wrote more than {self._limits.layer_bytes >> 20} MB")
        if count > self._limits.layer_files:
            raise Failed(EX_FULL, f"killed: it created more than {self._limits.layer_files} files")
        return size, count

    def _counted(self, *options: str) -> int:
        with subprocess.Popen(
            _du(self._folder, *options), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as counting:
            while True:
                try:
                    return _number(counting.communicate(timeout=LOOK_S)[0])
                except subprocess.TimeoutExpired:
                    if _free(self._folder)[0] < self._limits.keep_free:
                        counting.kill()
                        raise self._disk_full() from None

    def _disk_full(self) -> Failed:
        return Failed(EX_FULL, f"killed: less than {self._limits.keep_free >> 20} MB of disk space were free")


def _free(folder: str) -> tuple[int, int]:
    """Return the free bytes and files of a file system; some count no files, and say 0."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_favail


def _du(folder: str, *options: str) -> list[str]:
    return ["/usr/bin/du", "--summarize", "--one-file-system", "--block-size=1", *options, "--", folder]


def _number(said: str) -> int:
    first = said.split()[:1]
    return int(first[0]) if first else 0
