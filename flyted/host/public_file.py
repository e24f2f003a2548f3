"""A file that everybody may read, replaced as a whole."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from flyted.contract.errors import HostFailure


def write(path: Path, data: bytes) -> None:
    """Puts ``data`` at ``path`` with mode 0644, whatever our umask is; a reader sees the old file or the new one.

    Raises :class:`HostFailure` when the disk refuses.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), 0o644)
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise HostFailure(f"cannot write {path}: {error.strerror}", hint=f"df -h {path.parent}") from error
