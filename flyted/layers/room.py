"""Watches how much of the disk a step takes, since an ordinary file system limits nobody by folder."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from .failed import Failed
from .words import EX_FULL


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
        """Raise :class:`Failed` if the layer has become too large, or the disk too full."""
        free, files = _free(self._folder)
        small = free < self._limits.keep_free
        more, more_files = self._bytes - free, self._files - files
        if not small and more <= self._limits.layer_bytes and more_files <= self._limits.layer_files:
            return
        size, count = size_of(self._folder), size_of(self._folder, "--inodes")
        if size > self._limits.layer_bytes:
            raise Failed(EX_FULL, f"killed: it wrote more than {self._limits.layer_bytes >> 20} MB")
        if count > self._limits.layer_files:
            raise Failed(EX_FULL, f"killed: it created more than {self._limits.layer_files} files")
        if small:
            raise Failed(EX_FULL, f"killed: less than {self._limits.keep_free >> 20} MB of disk space were free")
        self._bytes, self._files = free + size, files + count  # it was somebody else


def _free(folder: str) -> tuple[int, int]:
    """Return the free bytes and files of a file system; some count no files, and say 0."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_favail


def size_of(folder: str, *options: str) -> int:
    """Return the bytes that a folder takes, by du(1), which a deep tree does not stop; 0 if it cannot be counted."""
    words = ["/usr/bin/du", "--summarize", "--one-file-system", "--block-size=1", *options, "--", folder]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    first = done.stdout.split()[:1]
    return int(first[0]) if first else 0
