"""Writes the gateway's files, each as a whole; an error says why one cannot be written."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from flyted.base import files
from flyted.contract.errors import HostFailure, NotFound

CURE = "make room below /var/lib/private/flyted-gateway (df -h /var/lib), then try again"


@contextlib.contextmanager
def stored(what: str) -> Iterator[None]:
    """Raise :class:`HostFailure` for an OSError in the block, which stores ``what``."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full" if full else error.strerror or type(error).__name__
        raise HostFailure(f"the gateway cannot store {what}: {why}", hint=CURE) from error


def replace(path: Path, data: bytes) -> None:
    """Write a file, for its owner alone, as a whole or not at all. Raise OSError if it cannot be written."""
    files.replace(path, data, 0o600)


@contextlib.contextmanager
def opened(paths: Mapping[str, Path]) -> Iterator[dict[str, int]]:
    """Yield a descriptor of each file while the block runs. Raise :class:`NotFound` if one is not there any more."""
    fds: dict[str, int] = {}
    try:
        for name, path in paths.items():
            fds[name] = _opened(path)
        yield fds
    finally:
        for fd in fds.values():
            os.close(fd)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Yield an uploaded file, open for reading. Raise :class:`NotFound` if it is not there any more."""
    with os.fdopen(_opened(path), "rb") as file:
        yield file


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound("an uploaded file is gone", hint="flyte delete local-cache, then serve again") from error


def oldest(folder: Path, kept: int) -> list[Path]:
    """Return the files and folders in ``folder`` but for the ``kept`` last changed ones. Raise OSError if it fails."""
    found = [(entry.stat().st_mtime, entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return [Path(path) for _, path in sorted(found)[:-kept]]
