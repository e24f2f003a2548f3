"""Takes files out of a bundle, which may be hostile, into the root that this process has: COPY of a Dockerfile.

Links lead nowhere but into that root, so nothing here has to look where they go.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from . import archive
from .archive import Entry
from .compression import Plain
from .damaged import Damaged, shown
from .failed import Failed
from .unpack import MOST_BYTES
from .users import Owner
from .words import EX_DATAERR


def copy(bundle: BinaryIO, source: str, target: str, owner: Owner) -> None:
    """Copy what ``source`` names in the bundle to ``target``.

    The content of a folder goes into the folder ``target``. A file becomes ``target``, or lies in it if that is a
    folder or ends with "/". Everything belongs to ``owner``, also the folders on the way that are not there. Raises
    :class:`Failed` for an archive that is damaged or no such one, ``OSError`` for what cannot be written.
    """
    try:
        with Plain(bundle, MOST_BYTES) as plain:
            found = _Copy(plain, source, target, owner).all()
    except Damaged as error:
        raise Failed(EX_DATAERR, f"the archive cannot be used: {error}") from error
    if not found:
        raise Failed(EX_DATAERR, f"the archive has no {source}")


class _Copy:
    """One copy, from the archive's beginning to its end."""

    def __init__(self, plain: Plain, source: str, target: str, owner: Owner) -> None:
        self._plain, self._source, self._owner = plain, archive.components(os.fsencode(source)), owner
        self._target = os.fsencode(target.rstrip("/") or "/")
        self._into = target.endswith("/")
        self._times: list[tuple[bytes, int]] = []  # of folders: what is put into them changes them

    def all(self) -> int:
        """Copy every entry that is asked for, and return how many there were."""
        count = 0
        for entry in archive.entries(self._plain):
            path = self._path(entry.parts, folder=entry.kind == archive.FOLDER)
            if path is None:
                for _ in self._plain.parts(entry.size):
                    pass
                continue
            self._one(entry, path)
            count += 1
        for path, when in reversed(self._times):
            os.utime(path, ns=(when, when))
        return count

    def _path(self, parts: tuple[bytes, ...], *, folder: bool = False) -> bytes | None:
        """Return where an entry goes; ``None`` if it is not asked for."""
        above = len(self._source)
        if parts[:above] != self._source:
            return None
        if len(parts) > above:
            return os.path.join(self._target, *parts[above:])
        if not folder and parts and (self._into or os.path.isdir(self._target)):
            return os.path.join(self._target, parts[-1])
        return self._target

    def _one(self, entry: Entry, path: bytes) -> None:
        self._folders(os.path.dirname(path))
        if entry.kind == archive.FOLDER:
            self._folders(path)
            if path != self._target:
                self._settle(entry, path)
                self._times.append((path, entry.mtime))
            return
        if os.path.lexists(path):
            os.unlink(path)  # never write through a link; a folder is not replaced by a file
        if entry.kind == archive.SYMLINK:
            os.symlink(entry.link, path)
            os.chown(path, self._owner.uid, self._owner.gid, follow_symlinks=False)
        elif entry.kind == archive.HARD_LINK:
            self._link(entry, path)
        elif entry.kind == archive.FILE:
            self._file(entry, path)
        else:
            raise Damaged(f"{shown(entry.name)} is a device or a pipe")

    def _link(self, entry: Entry, path: bytes) -> None:
        other = self._path(archive.components(entry.link))
        if other is None:
            raise Damaged(f"{shown(entry.name)} is a hard link to what is not copied")
        os.link(other, path, follow_symlinks=False)

    def _file(self, entry: Entry, path: bytes) -> None:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(opened, "wb", buffering=0) as file:
            for part in self._plain.parts(entry.size):
                rest = part
                while rest:
                    rest = rest[file.write(rest) :]
        self._settle(entry, path)
        os.utime(path, ns=(entry.mtime, entry.mtime))

    def _settle(self, entry: Entry, path: bytes) -> None:
        os.chown(path, self._owner.uid, self._owner.gid)
        os.chmod(path, entry.mode)

    def _folders(self, path: bytes) -> None:
        """Make a folder, and those above it, unless they are there; through links of the image."""
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for each in reversed(missing):
            os.mkdir(each, 0o755)
            os.chown(each, self._owner.uid, self._owner.gid)
