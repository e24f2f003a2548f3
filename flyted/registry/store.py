"""Stores blobs by their digest, and partial downloads, which the next pull continues.

A blob has its name only when all of it is on the disk and has the right digest. Pulls that need the same blob of the
same server wait for each other, by a lock on the file that it arrives in. Pulls from other servers do not wait:
anybody's registry may name the digest of a popular layer, and send it as slowly as it likes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .failed import Failed, say
from .manifest import MOST_BYTES, Blob
from .words import EX_DATAERR, EX_IOERR, PARTS, PULLED, RESOLVED, SHA256

KEEP_FREE = 1 << 30
_PIECE = 1 << 20


class Store:
    """The folder of all blobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (SHA256, PARTS, PULLED, RESOLVED):
            (folder / name).mkdir(mode=0o755, exist_ok=True)

    def has(self, blob: Blob) -> bool:
        """Report whether a blob is there. Raises :class:`Failed` if it is, with another size."""
        try:
            size = self._path(blob).stat().st_size
        except FileNotFoundError:
            return False
        if size != blob.size:
            raise Failed(EX_DATAERR, f"{blob.digest[:19]} has {size} bytes, and its manifest says {blob.size}")
        return True

    def known(self, blob: Blob) -> bytes:
        """Return a blob that is there, is no larger than a document, and has its digest; else nothing."""
        try:
            with self._path(blob).open("rb") as file:
                data = file.read(MOST_BYTES)
        except FileNotFoundError:
            return b""
        return data if f"sha256:{hashlib.sha256(data).hexdigest()}" == blob.digest else b""

    def make_room(self, blobs: list[Blob]) -> None:
        """Raise :class:`Failed` if there is no room for those of ``blobs`` that are missing, and some for others."""
        missing = {blob.digest: blob.size for blob in blobs if not self.has(blob)}
        found = os.statvfs(self.folder)
        free = found.f_bavail * found.f_frsize
        if missing and sum(missing.values()) + KEEP_FREE > free:
            raise Failed(
                EX_IOERR,
                f"the image needs {megabytes(sum(missing.values()))}, and {self.folder} has {megabytes(free)} free, "
                f"of which {megabytes(KEEP_FREE)} are kept free",
            )

    @contextmanager
    def part(self, blob: Blob, server: str) -> Iterator[Part | None]:
        """Yield the file that ``blob`` arrives in from ``server``, for this thread alone; ``None`` if it is there."""
        path = self.folder / PARTS / part_name(blob.digest, server)
        while True:
            with path.open("a+b") as file:
                _lock(file, blob)
                if self.has(blob):
                    path.unlink(missing_ok=True)
                    yield None
                    return
                if os.fstat(file.fileno()).st_nlink:
                    yield Part(file, path, self._path(blob), blob)
                    return

    def add(self, blob: Blob, data: bytes) -> None:
        """Store a whole blob whose digest was checked."""
        _write(self._path(blob), data)

    def record(self, folder: str, digest: str, values: dict[str, Any]) -> None:
        """Write the record of an image, whole or not at all."""
        _write(self.folder / folder / f"{digest.partition(':')[2]}.json", json.dumps(values, sort_keys=True).encode())

    def _path(self, blob: Blob) -> Path:
        return self.folder / SHA256 / blob.digest.partition(":")[2]


@dataclass
class Part:
    """A blob that arrives. ``have``: bytes of it, which are part of the digest that is being computed."""

    file: BinaryIO
    path: Path
    to: Path
    blob: Blob

    def __post_init__(self) -> None:
        self.have, self._digest = 0, hashlib.sha256()
        self.file.seek(0)
        while piece := self.file.read(_PIECE):
            self.have += len(piece)
            self._digest.update(piece)

    def begin(self) -> None:
        """Discard what has arrived."""
        self.file.truncate(0)
        self.have, self._digest = 0, hashlib.sha256()

    def write(self, piece: bytes | memoryview) -> None:
        """Add a piece. Raises :class:`Failed` for more than there may be."""
        if self.have + len(piece) > self.blob.size:
            self.begin()
            raise Failed(EX_DATAERR, f"{self.blob.digest[:19]} is larger than its manifest says")
        self.file.write(piece)
        self.have += len(piece)
        self._digest.update(piece)

    def finish(self) -> None:
        """Give the blob its name. Raises :class:`Failed` if it has another digest; then nothing of it is kept."""
        if f"sha256:{self._digest.hexdigest()}" != self.blob.digest:
            self.begin()
            raise Failed(EX_DATAERR, f"{self.blob.digest[:19]} arrived with content that does not match its digest")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.path.rename(self.to)
        _sync_folder(self.to.parent)


def part_name(digest: str, server: str) -> str:
    """Return the name of the file that a blob of this digest arrives in from a server, a name with its port."""
    return f"{digest.partition(':')[2]}-{hashlib.sha256(server.encode()).hexdigest()[:16]}"


def megabytes(size: float) -> str:
    """Return a size for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _lock(file: BinaryIO, blob: Blob) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"{blob.digest[:19]} is being pulled for another image: waiting for it")
        fcntl.flock(file, fcntl.LOCK_EX)


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
