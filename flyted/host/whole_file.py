"""Replaces a file as a whole."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from flyted.contract.errors import HostFailure


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put ``data`` at ``path`` with ``mode``, whatever the umask is; a reader sees the old file or the new one.

    Raises :class:`HostFailure` when the disk refuses.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(fd, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise HostFailure(
            f"cannot write {path}: {error.strerror}", hint=f"df -h {path.parent}; ls -ld {path.parent}"
        ) from error


def update(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Do as :func:`write`, unless all of it is so already: a write costs the disk a flush."""
    with contextlib.suppress(OSError):
        found = path.lstat()
        if (found.st_mode, found.st_uid) == (stat.S_IFREG | mode, os.geteuid()) and path.read_bytes() == data:
            return
    write(path, data, mode)
