"""What clients have sent: files named by where they belong and what is in them. Bounded, and swept by last use.

A client remembers for a day that it has sent a file, and does not send it again (flyte/_code_bundle): so a file stays
for three days after its last use, whatever comes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from flyted.contract.errors import HostFailure, InvalidInput, NotFound
from flyted.contract.names import label, shown

FILE_BYTES = 256 << 20
"""As flyted's own limit for a code bundle."""
TOTAL_BYTES = 4 << 30
FILES = 4000
KEPT_S = 3 * 86400.0
SCHEME = "flyted://"
NAME_LENGTH = 200
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Place:
    """Where a file belongs; checked when made. :meth:`url` is what the client knows it by."""

    project: str
    domain: str
    md5: str
    filename: str

    def __post_init__(self) -> None:
        """Raises :class:`InvalidInput`."""
        label(self.project, "project")
        label(self.domain, "domain")
        if _MD5.fullmatch(self.md5) is None:
            raise InvalidInput("an upload needs the MD5 of its content")
        # any name of a file: it is found by its digest, and becomes no path
        name = self.filename
        if not 0 < len(name) <= NAME_LENGTH or not name.isprintable() or "/" in name or name in (".", ".."):
            raise InvalidInput(
                f"file name {shown(name)} is not valid", hint="use 1-200 characters that can be printed, without '/'"
            )

    @property
    def url(self) -> str:
        """Its address in Flyte's words ("native URL")."""
        return f"{SCHEME}{self.project}/{self.domain}/{self.md5}/{self.filename}"

    @property
    def stem(self) -> str:
        """The beginning of its file name here."""
        return hashlib.sha256(self.url.encode()).hexdigest()


def place_of(url: str) -> Place:
    """The place that an address names. Raises :class:`InvalidInput` for anything but what we gave out."""
    parts = url.removeprefix(SCHEME).split("/")
    if not url.startswith(SCHEME) or len(parts) != 4:
        raise InvalidInput(
            f"{shown(url)} is not a file that was uploaded here",
            hint="a dry run uploads nothing, and flyte.serve sends the app all the same: flyte.deploy(dry_run=True)",
        )
    return Place(*parts)


@dataclass(frozen=True)
class Blob:
    """A file that is there."""

    path: Path
    sha256: str


class Blobs:
    """The folder of all files: ``<place>.<sha256 of the content>``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self.sweep(time.time())

    def find(self, place: Place) -> Blob:
        """The file of a place, used from now on. Raises :class:`NotFound`."""
        for path in self._folder.glob(f"{place.stem}.*"):
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)
                return Blob(path, path.suffix.removeprefix("."))
        raise NotFound(f"{place.filename} is not here (any more)")

    def has(self, place: Place) -> bool:
        """Whether the file of a place is there."""
        return next(self._folder.glob(f"{place.stem}.*"), None) is not None

    async def keep(self, place: Place, chunks: AsyncIterator[bytes], limit: int) -> Blob:
        """Stores what comes, if it is what the place says. Atomic: a part of a file is never found.

        Raises :class:`InvalidInput` for another content or more than ``limit`` bytes, :class:`HostFailure` when there
        is no room.
        """
        self.sweep(time.time())
        self._check_room(limit)
        aside = self._folder / f".{secrets.token_hex(8)}.part"
        md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
        try:
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        raise InvalidInput(f"an upload is at most {limit} bytes long here")
                    md5.update(chunk)
                    sha256.update(chunk)
                    file.write(chunk)
            if md5.hexdigest() != place.md5:
                raise InvalidInput("the content is not the one that was announced (its MD5 differs)")
            path = self._folder / f"{place.stem}.{sha256.hexdigest()}"
            aside.rename(path)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise HostFailure("the disk is full" if full else f"cannot store it: {error.strerror}") from error
        finally:
            aside.unlink(missing_ok=True)
        return Blob(path, sha256.hexdigest())

    def sweep(self, now: float) -> None:
        """Deletes what nobody has used for three days, and parts that nobody finishes any more."""
        for path, status in self._files():
            part = path.name.startswith(".")
            if now - status.st_mtime > (3600 if part else KEPT_S):
                path.unlink(missing_ok=True)

    def _check_room(self, coming: int) -> None:
        sizes = [status.st_size for _, status in self._files()]
        if len(sizes) >= FILES or sum(sizes) + coming > TOTAL_BYTES + FILE_BYTES:
            raise HostFailure("there is no room for more uploads until the oldest are three days old")

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()
