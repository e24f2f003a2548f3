"""Replaces a file as a whole."""

from __future__ import annotations

import os
import secrets
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
