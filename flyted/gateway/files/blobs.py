"""Stores the files that clients send, named by their place and their content. Bounded, and swept by last use.

A client remembers for a day that it has sent a file, and does not send it again (flyte/_code_bundle). Therefore a file
stays for three days after its last use, however many others come.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from flyted.base import files, tasks
from flyted.contract.errors import HostFailure, InvalidInput, NotFound
from flyted.contract.names import label, printable
from flyted.gateway.files.whole import stored

FILE_BYTES = 256 << 20
"""The same as flyted's own limit for a code bundle."""
TOTAL_BYTES = 4 << 30
FILES = 4000
OF_A_USER = 0.75
"""The part of the room that one user may fill: the rest is left to others."""
KEPT_S = 3 * 86400.0
SCHEME = "flyted://"
NAME_LENGTH = 200
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class BlobKey:
    """The place of a file; it is checked when it is made. A client knows the file by :meth:`url`."""

    project: str
    domain: str
    md5: str
    filename: str

    def __post_init__(self) -> None:
        """Raise :class:`InvalidInput` unless project, domain, MD5 and file name are valid."""
        label(self.project, "project")
        label(self.domain, "domain")
        if _MD5.fullmatch(self.md5) is None:
            raise InvalidInput("an upload needs the MD5 of its content")
        # any file name will do: the file is found by its digest, and no path is made of the name
        name = self.filename
        if not 0 < len(name) <= NAME_LENGTH or not name.isprintable() or "/" in name or name in (".", ".."):
            raise InvalidInput(
                f"file name {printable(name)} is not valid", hint="use 1-200 printable characters, without '/'"
            )

    @property
    def url(self) -> str:
        """The address that Flyte calls "native URL"."""
        return f"{SCHEME}{self.project}/{self.domain}/{self.md5}/{self.filename}"

    @property
    def stem(self) -> str:
        """The first part of the name under which the file is stored."""
        return hashlib.sha256(self.url.encode()).hexdigest()


def place_of(url: str) -> BlobKey:
    """Return the place that an address names.

    Raise :class:`InvalidInput` for an address of another form than those that the gateway gives out.
    """
    parts = url.removeprefix(SCHEME).split("/")
    if not url.startswith(SCHEME) or len(parts) != 4:
        raise InvalidInput(
            f"{printable(url)} was not uploaded to this machine",
            hint="a dry run uploads nothing, and flyte.serve sends the app all the same: flyte.deploy(dry_run=True)",
        )
    return BlobKey(*parts)


@dataclass(frozen=True)
class Blob:
    """A stored file: where it is, and the SHA-256 of its content."""

    path: Path
    sha256: str


class Blobs:
    """The folder of all stored files, each named ``<place>.<sha256 of the content>.<uid of who sent it>``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self.sweep(time.time())

    def find(self, place: BlobKey) -> Blob:
        """Return the file of a place, and note that it was used now. Raise :class:`NotFound` if there is none."""
        for path in self._folder.glob(f"{place.stem}.*"):
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)
                return Blob(path, path.name.split(".")[1])
        raise NotFound(f"{place.filename} is not, or no longer, on this machine")

    def has(self, place: BlobKey) -> bool:
        """Report whether the file of a place is stored."""
        return next(self._folder.glob(f"{place.stem}.*"), None) is not None

    async def keep(self, place: BlobKey, chunks: AsyncIterator[bytes], limit: int, uid: int) -> Blob:
        """Store the content that comes in ``chunks`` from the user ``uid``, if it has the MD5 of ``place``.

        The file appears as a whole or not at all. Raise :class:`InvalidInput` for another content and for more than
        ``limit`` bytes, and :class:`HostFailure` if there is no room (for this user) or the disk fails.
        """
        with stored("the upload"):
            self.sweep(time.time())
            self._check_room(limit, uid)
            return await self._keep(place, chunks, limit, uid)

    async def _keep(self, place: BlobKey, chunks: AsyncIterator[bytes], limit: int, uid: int) -> Blob:
        md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
        with files.aside(self._folder, 0o600) as new:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise InvalidInput(f"an upload must be at most {limit} bytes long")
                md5.update(chunk)
                sha256.update(chunk)
                new.file.write(chunk)
            if md5.hexdigest() != place.md5:
                raise InvalidInput("the content does not match the announced MD5")
            path = self._folder / f"{place.stem}.{sha256.hexdigest()}.{uid}"
            # in a thread: a disk may take seconds to flush what is large
            await tasks.whole(asyncio.to_thread(new.publish, path))
        return Blob(path, sha256.hexdigest())

    def sweep(self, now: float) -> None:
        """Delete files not used for three days before ``now``, and parts of uploads older than an hour."""
        for path, status in self._files():
            part = path.name.startswith(".")
            if now - status.st_mtime > (3600 if part else KEPT_S):
                path.unlink(missing_ok=True)

    def _check_room(self, coming: int, uid: int) -> None:
        sizes = [(status.st_size, path.suffix == f".{uid}") for path, status in self._files()]
        own = [size for size, is_own in sizes if is_own]
        if _is_full([size for size, _ in sizes], coming, 1):
            raise HostFailure("there is no room for more uploads until the oldest are three days old")
        if _is_full(own, coming, OF_A_USER):
            raise HostFailure("there is no room for more of your uploads until your oldest are three days old")

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()


def _is_full(sizes: list[int], coming: int, part: float) -> bool:
    """Report whether ``coming`` bytes do not fit into a part of the room beside files of these sizes."""
    return len(sizes) >= FILES * part or sum(sizes) + coming > TOTAL_BYTES * part + FILE_BYTES
