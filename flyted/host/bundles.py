"""Stores bundles by their digest, readable for the units that unpack them: the daemon itself never does."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from flyted.base import files
from flyted.contract.errors import HostFailure, InvalidInput
from flyted.contract.quantity import human_bytes
from flyted.host.disk import disk_space

LIMIT = 256 * 1024 * 1024
TOGETHER = 2 * LIMIT
"""Bytes of all bundles that come with one request."""
_CHUNK = 1 << 20
_FULL = "the disk is full"


def path_of(folder: Path, digest: str) -> Path:
    """Return the path of the bundle with this digest, whether it is there or not."""
    return folder / f"{digest}.tar.gz"


def count(folder: Path) -> int:
    """Return how many bundles there are."""
    return sum(1 for _ in folder.glob("*.tar.gz"))


def keep(folder: Path, sent: Mapping[str, int]) -> None:
    """Copy the bundles behind a client's descriptors (digest → descriptor) to their places, unless they are there.

    All are looked at before one is copied, and each is copied atomically. Only a regular file (a memfd is one) is
    read: nothing that could block. Raises :class:`InvalidInput` when one is no regular file, or not of its
    digest, or when they are too large; :class:`HostFailure` when the disk has no room for them, or refuses. What was
    copied before that stays for the next :func:`sweep`.
    """
    new = {digest: fd for digest, fd in sent.items() if not path_of(folder, digest).exists()}
    size = sum(_size(fd) for fd in new.values())
    if size > TOGETHER:
        raise InvalidInput(f"the bundles of one request must be at most {TOGETHER >> 20} MiB together")
    try:
        full = size > disk_space(folder)[0]
        for digest, fd in () if full else new.items():
            with files.aside(folder, 0o644) as copy:  # an app's or a build's own user reads it
                _copy(fd, copy.file, digest)
                copy.publish(path_of(folder, digest))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise _not_stored(size, _FULL if full else str(error), folder) from error
    if full:
        raise _not_stored(size, _FULL, folder)


def _not_stored(size: int, why: str, folder: Path) -> HostFailure:
    what = f"the bundles of the request ({human_bytes(size)})"
    return HostFailure(f"{what} could not be stored: {why}", hint=f"df -h {folder}")


def _size(fd: int) -> int:
    try:
        found = os.fstat(fd)
    except OSError as error:
        raise InvalidInput(f"a bundle cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_size > LIMIT:
        raise InvalidInput(f"a bundle must be a regular file of at most {LIMIT >> 20} MiB")
    return found.st_size


def _copy(fd: int, out: BinaryIO, digest: str) -> None:
    seen, offset = hashlib.sha256(), 0
    while chunk := os.pread(fd, _CHUNK, offset):
        offset += len(chunk)
        if offset > LIMIT:
            raise InvalidInput(f"a bundle is at most {LIMIT >> 20} MiB")
        seen.update(chunk)
        out.write(chunk)
    if seen.hexdigest() != digest:
        raise InvalidInput(f"bundle {digest[:12]} does not match the announced digest")


def check_memory(fd: int) -> None:
    """Raise :class:`InvalidInput` for anything but a file in memory (memfd_create(2)), without touching the file.

    A file of a file system that a user's program serves (FUSE) may never answer. The kernel alone answers for seals,
    and only files in memory have them (fcntl(2), F_GET_SEALS).
    """
    try:
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise InvalidInput("a bundle must come as a file in memory", hint="use flytectl serve") from error


def sweep(folder: Path, used: set[str], *, halves: bool = True) -> None:
    """Delete bundles whose digest is not in ``used``; with ``halves`` also those that a crash left half written."""
    for entry in folder.iterdir():
        half = entry.name.startswith(".")
        if halves if half else entry.name.removesuffix(".tar.gz") not in used:
            with contextlib.suppress(FileNotFoundError):
                entry.unlink()
