"""Writes files as a whole: aside, flushed to the disk, then renamed to their place.

After a crash or a power cut a file is as it was before, or as it was to be: never a part of it. What was written aside
may stay, under a name that begins with a dot and ends in ``.part``. After :func:`keep` it is as it was to be.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


class Aside:
    """A file that is not at its place yet. ``file`` is open for writing."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self._path = path

    def publish(self, path: Path) -> None:
        """Flush the file to the disk, and put it at ``path`` in one step, in place of a file or link that is there.

        ``path`` is in the same folder. Raise OSError if the disk refuses.
        """
        self.file.flush()
        os.fsync(self.file.fileno())
        self._path.replace(path)


def keep(folder: Path) -> None:
    """Flush the names in a folder to the disk: a power cut undoes no rename any more. Raise OSError if it fails."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def aside(folder: Path, mode: int) -> Iterator[Aside]:
    """Yield a new file in ``folder`` with ``mode``, whatever the umask is; delete it at the end unless published.

    Raise OSError if it cannot be made.
    """
    path = folder / f".{os.urandom(8).hex()}.part"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            yield Aside(file, path)
    finally:
        path.unlink(missing_ok=True)


def replace(path: Path, data: bytes, mode: int) -> None:
    """Put ``data`` at ``path`` with ``mode``; a reader sees the old file or the new one. Raise OSError if it fails."""
    with aside(path.parent, mode) as new:
        new.file.write(data)
        new.publish(path)
