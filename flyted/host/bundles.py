"""Code bundles on disk: content-addressed, readable for the apps' own units; launch unpacks them, never the daemon."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from flyted.base import files
from flyted.contract.errors import HostFailure, InvalidInput

LIMIT = 256 * 1024 * 1024
_CHUNK = 1 << 20


def path_of(folder: Path, digest: str) -> Path:
    """Return the path of the bundle with this digest, whether it is there or not."""
    return folder / f"{digest}.tar.gz"


def count(folder: Path) -> int:
    """Return how many bundles there are."""
    return sum(1 for _ in folder.glob("*.tar.gz"))


def keep(folder: Path, fd: int, digest: str) -> None:
    """Copy the bundle behind a client's descriptor to its place, atomically, unless it is there.

    Only a regular file (a memfd is one) is read: nothing that could block for ever. Raises :class:`InvalidInput` when
    it is no regular file, too large, or not of this digest; :class:`HostFailure` when the disk is full, or refuses.
    """
    if path_of(folder, digest).exists():
        return
    try:
        found = os.fstat(fd)
    except OSError as error:
        raise InvalidInput(f"the code bundle cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_size > LIMIT:
        raise InvalidInput(f"a code bundle must be a regular file of at most {LIMIT >> 20} MiB")
    try:
        with files.aside(folder, 0o644) as new:  # the app's own user reads it
            _copy(fd, new.file, digest)
            new.publish(path_of(folder, digest))
    except OSError as error:
        text = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error)
        raise HostFailure(f"the code bundle could not be stored: {text}", hint=f"df -h {folder}") from error


def _copy(fd: int, out: BinaryIO, digest: str) -> None:
    seen, offset = hashlib.sha256(), 0
    while chunk := os.pread(fd, _CHUNK, offset):
        offset += len(chunk)
        if offset > LIMIT:
            raise InvalidInput(f"a code bundle is at most {LIMIT >> 20} MiB")
        seen.update(chunk)
        out.write(chunk)
    if seen.hexdigest() != digest:
        raise InvalidInput("the code bundle is not the one that was announced (its digest differs)")


def check_memory(fd: int) -> None:
    """Raise :class:`InvalidInput` for anything but a file in memory (memfd_create(2)), without touching the file.

    A file of a file system that a user's program serves (FUSE) may never answer. The kernel alone answers for seals,
    and only files in memory have them (fcntl(2), F_GET_SEALS).
    """
    try:
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise InvalidInput("a code bundle must come as a file in memory", hint="use flytectl serve") from error


def sweep(folder: Path, used: set[str], *, halves: bool = True) -> None:
    """Delete bundles whose digest is not in ``used``; with ``halves`` also those that a crash left half written."""
    for entry in folder.iterdir():
        half = entry.name.startswith(".")
        if halves if half else entry.name.removesuffix(".tar.gz") not in used:
            with contextlib.suppress(FileNotFoundError):
                entry.unlink()
