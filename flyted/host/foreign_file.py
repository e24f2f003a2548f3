"""Reads a file that another program may have created: code of a package in an image, for example."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from flyted.contract.errors import StoreCorrupt


def read(path: Path, limit: int) -> str:
    """Return the text of a file, of at most ``limit`` bytes.

    No link is followed, and no pipe is waited for. Raises :class:`StoreCorrupt` for what is not a regular file,
    ``OSError`` for what cannot be opened, ``UnicodeDecodeError`` for what is no UTF-8.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise StoreCorrupt(f"{path} is not a regular file")
        return file.read(limit).decode()
