"""Replaces a file as a whole; its errors say why that failed."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from flyted.base import files
from flyted.contract.errors import HostFailure


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put ``data`` at ``path`` with ``mode``, whatever the umask is; a reader sees the old file or the new one.

    Raises :class:`HostFailure` when the disk refuses.
    """
    try:
        files.replace(path, data, mode)
    except OSError as error:
        raise HostFailure(
            f"cannot write {path}: {error.strerror}", hint=f"df -h {path.parent}; ls -ld {path.parent}"
        ) from error


def write_and_keep(path: Path, data: bytes) -> None:
    """Do as :func:`write`, in a folder that is made if need be; a power cut afterwards undoes none of it.

    Raises as :func:`write`.
    """
    try:
        new = [each for each in (path.parent, *path.parent.parents) if not each.exists()]
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write(path, data)
        for folder in (path.parent, *(each.parent for each in new)):
            files.keep(folder)
    except OSError as error:
        raise HostFailure(f"cannot keep {path}: {error.strerror}", hint=f"df -h {path.parent}") from error


def update(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Do as :func:`write`, unless the file has this content and mode already: a write costs a flush of the disk."""
    with contextlib.suppress(OSError):
        found = path.lstat()
        if (found.st_mode, found.st_uid) == (stat.S_IFREG | mode, os.geteuid()) and path.read_bytes() == data:
            return
    write(path, data, mode)
