"""Space that is kept for deleting: on a full disk, what frees space needs some first.

SQLite logs a deletion before it takes effect, and the secret store writes its manifest anew. A file of zeros beside
them holds that space, two empty ones the inodes: they go away for a deletion, and are made again after it.
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
"""Bytes: a manifest of as many secrets as there may be has 1.5 MiB, a deletion's log some pages."""
_STEP = 128 * 1024
_OPEN = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def released(folder: Path) -> Iterator[None]:
    """Inside, the disk of ``folder`` has the reserve's space more; afterwards what is left of it is taken again.

    Never raises: without a reserve a full disk is what it is elsewhere. Another program may take the space first.
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
    """All of it, or as much as there is."""
    fd = os.open(folder / NAME, _OPEN, 0o600)
    try:
        for size in range(SIZE, 0, -_STEP):
            with contextlib.suppress(OSError):
                os.posix_fallocate(fd, 0, size)
                return
    finally:
        os.close(fd)
