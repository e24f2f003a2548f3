"""Keeps a reserve of disk space: on a full disk, a deletion needs some space before it frees any.

SQLite logs a deletion before it takes effect, and the secret store rewrites its manifest. A file of zeros beside
them holds that space, and two empty files hold inodes: they are removed for a deletion, and made again after it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "reserve"
SPARES = ("reserve.1", "reserve.2")
"""Empty files: a change of the secret store writes two new ones before it removes the old ones, which takes inodes."""
SIZE = 2 * 1024 * 1024
"""Bytes. A manifest of as many secrets as there may be has 1.5 MiB, the log of a deletion some pages."""
_STEP = 128 * 1024
_OPEN = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def released(folder: Path) -> Iterator[None]:
    """Free the reserve on the disk of ``folder`` while the body runs; then take again as much as is left of it.

    Never raises: without a reserve, a full disk is as full as for any program. Another program may take the space
    first.
    """
    for name in (NAME, *SPARES):
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _take(folder)
        for name in SPARES:
            with contextlib.suppress(OSError):
                os.close(os.open(folder / name, _OPEN, 0o600))


def _take(folder: Path) -> None:
    """Take the whole reserve, or as much of it as there is room for."""
    fd = os.open(folder / NAME, _OPEN, 0o600)
    try:
        for size in range(SIZE, 0, -_STEP):
            with contextlib.suppress(OSError):
                os.posix_fallocate(fd, 0, size)
                return
    finally:
        os.close(fd)
