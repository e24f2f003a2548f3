"""Copies files into this process's root, as COPY, ADD and WORKDIR of a Dockerfile do.

Links of the image lead nowhere but into that root, so nothing here has to look where they go. What is copied may be
hostile: it comes out of a bundle (bundle.py), or of another stage (stage.py).

Owners and modes are BuildKit's: root's for files that the client sends, those of the stage or of the archive
otherwise, and the USER's for a WORKDIR. One thing differs, since an app does not run as a user of its image: the
folders that lead to a WORKDIR, and a /root that its base has closed, are made accessible to all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from . import archive
from .archive import Entry
from .compression import PIECE
from .damaged import Damaged, printable
from .failed import Failed
from .patterns import matches
from .unpack import add, is_archive
from .users import ROOT, Owner
from .words import EX_DATAERR, EX_STEP

Item = tuple[Entry, Iterable[bytes | memoryview]]
"""A file, folder or link, and a file's content."""


@dataclass(frozen=True)
class Order:
    """What to copy, and how. ``source``: see :func:`copy`; the other fields are those of :class:`.job.Copy`.

    ``owner``: None for the files' own. ``scratch``: a folder in which archives are kept while they are unpacked; None:
    archives are files like others. ``origin``: where the files come from, for messages.
    """

    source: str
    target: str
    owner: Owner | None
    mode: int | None = None
    glob: bool = False
    scratch: int | None = None
    origin: str = "the archive"


def copy(items: Iterable[Item], order: Order) -> None:
    """Copy the items at ``source``, or below it, to ``target``.

    The content of a folder goes into the folder ``target``. A file becomes ``target``, or a file in it if that is a
    folder or ends with "/". Folders on the way that are not there are made for the owner. Raises :class:`Failed` for
    files that are damaged or not there, ``OSError`` for what cannot be written.
    """
    try:
        found = _Copy(order).all(items)
    except Damaged as error:
        raise Failed(EX_DATAERR, f"{order.origin} cannot be used: {error}") from error
    if not found:
        what = "nothing that matches" if order.glob else "no"
        raise Failed(EX_DATAERR, f"{order.origin} has {what} {order.source}")


def make_folder(target: str, owner: Owner) -> None:
    """Make a folder, and those above it, if they are missing; make it accessible to everybody.

    An app does not run as a user of its image, but has to reach its working folder. Raises :class:`Failed`.
    """
    path = os.fsencode(target)
    try:
        _folders(path, owner)
    except (FileExistsError, NotADirectoryError):
        raise Failed(EX_STEP, f"{target} cannot be a folder: the image has a file there or above it") from None
    needed = 0o055
    while len(path) > 1:
        mode = os.stat(path).st_mode
        if mode & needed != needed:
            os.chmod(path, (mode | needed) & 0o7777)
        path, needed = os.path.dirname(path), 0o011


class _Copy:
    """One copy, from the first item to the last."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._source = archive.components(os.fsencode(order.source))
        self._target = os.fsencode(order.target.rstrip("/") or "/")
        self._into = order.target.endswith("/")
        self._files: set[tuple[bytes, ...]] = set()  # that the source itself names
        self._times: list[tuple[bytes, int]] = []  # of folders: what is put into them changes them

    def all(self, items: Iterable[Item]) -> int:
        """Copy every item that is asked for, and return how many there were."""
        count, scratch = 0, self._order.scratch
        for entry, content in items:
            if not self._is_asked_for(entry.parts):
                continue
            if scratch is not None and self._may_be_archive(entry):
                self._add(entry, content, scratch)
            else:
                self._put(entry, content)
            count += 1
        for path, when in reversed(self._times):
            os.utime(path, ns=(when, when))
        return count

    def _is_asked_for(self, parts: tuple[bytes, ...]) -> bool:
        head = parts[: len(self._source)]
        return matches(head, self._source) if self._order.glob else head == self._source

    def _is_named(self, entry: Entry) -> bool:
        return len(entry.parts) == len(self._source)

    def _path(self, parts: tuple[bytes, ...], *, folder: bool = False) -> bytes:
        """Return where an item goes."""
        above = len(self._source)
        if len(parts) > above:
            return os.path.join(self._target, *parts[above:])
        if not folder and parts and (self._into or os.path.isdir(self._target)):
            return os.path.join(self._target, parts[-1])
        return self._target

    def _may_be_archive(self, entry: Entry) -> bool:
        return entry.kind == archive.FILE and self._is_named(entry)

    def _add(self, entry: Entry, content: Iterable[bytes | memoryview], scratch: int) -> None:
        """Unpack an archive; copy a file that is none."""
        with _kept(content, scratch) as file:
            if is_archive(file):
                _folders(self._target, self._order.owner or ROOT)
                add(file, os.fsdecode(os.path.realpath(self._target)), self._order.owner)
            else:
                self._put(entry, iter(lambda: file.read(PIECE), b""))

    def _put(self, entry: Entry, content: Iterable[bytes | memoryview]) -> None:
        folder = entry.kind == archive.FOLDER
        path = self._path(entry.parts, folder=folder)
        _folders(path if folder else os.path.dirname(path), self._order.owner or ROOT)
        if folder:
            if path != self._target:
                self._settle(entry, path)
                self._times.append((path, entry.mtime))
            return
        self._check_alone(entry, path)
        if os.path.lexists(path):
            os.unlink(path)  # never write through a link; a folder is not replaced by a file
        if entry.kind == archive.SYMLINK:
            os.symlink(entry.link, path)
            os.chown(path, *self._owner(entry), follow_symlinks=False)
        elif entry.kind == archive.HARD_LINK:
            self._link(entry, path)
        elif entry.kind == archive.FILE:
            self._file(entry, path, content)
        else:
            raise Damaged(f"{printable(entry.name)} is a device or a pipe")

    def _check_alone(self, entry: Entry, path: bytes) -> None:
        """Refuse a pattern that puts several files into one."""
        if self._is_named(entry) and path == self._target:
            self._files.add(entry.parts)
            if len(self._files) > 1:
                raise Failed(
                    EX_DATAERR, f"{self._order.source} is several files, and {self._order.target} is not a folder"
                )

    def _link(self, entry: Entry, path: bytes) -> None:
        other = archive.components(entry.link)
        if not self._is_asked_for(other):
            raise Damaged(f"{printable(entry.name)} is a hard link to a file that is not copied")
        os.link(self._path(other), path, follow_symlinks=False)

    def _file(self, entry: Entry, path: bytes, content: Iterable[bytes | memoryview]) -> None:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(opened, "wb", buffering=0) as file:
            _write(file, content)
        self._settle(entry, path)
        os.utime(path, ns=(entry.mtime, entry.mtime))

    def _settle(self, entry: Entry, path: bytes) -> None:
        os.chown(path, *self._owner(entry))
        os.chmod(path, entry.mode if self._order.mode is None else self._order.mode)

    def _owner(self, entry: Entry) -> tuple[int, int]:
        owner = self._order.owner
        if owner is not None:
            return owner.uid, owner.gid
        return (entry.uid, entry.gid) if self._order.scratch is None else (0, 0)  # not those of who sent it


def _kept(content: Iterable[bytes | memoryview], scratch: int) -> BinaryIO:
    """Return a file without a name, with this content."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = open(os.open("archive", flags, 0o600, dir_fd=scratch), "r+b", buffering=0)  # noqa: SIM115  the caller's
    os.unlink("archive", dir_fd=scratch)
    _write(file, content)
    file.seek(0)
    return file


def _write(file: BinaryIO, content: Iterable[bytes | memoryview]) -> None:
    for part in content:
        rest = memoryview(part)
        while rest:
            rest = rest[file.write(rest) :]


def _folders(path: bytes, owner: Owner) -> None:
    """Make a folder, and those above it, unless they are there; through links of the image."""
    for each in _missing(path):
        os.mkdir(each, 0o755)
        os.chown(each, owner.uid, owner.gid)


def _missing(path: bytes) -> Iterator[bytes]:
    found = []
    while not os.path.isdir(path):
        found.append(path)
        path = os.path.dirname(path)
    return reversed(found)
