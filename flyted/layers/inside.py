"""Reaches folders below one root, whatever links an archive has put there: every step is a descriptor (openat(2)).

Links to folders are followed as a process in the image would follow them: entries as ``bin/sh`` are common above a
base where ``bin`` leads to ``usr/bin``. ``..`` and absolute targets stay below the root, and other file
systems are refused.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from .damaged import Damaged, printable

DEEPEST = 400
"""Nested folders; one descriptor and one call of a function each."""
MOST_LINKS = 40
"""Links on the way to a file, as the kernel's (path_resolution(7))."""
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Folder:
    """An open folder and its real path below the root. The descriptor is the :class:`Inside`'s."""

    fd: int
    path: bytes

    def below(self, name: bytes) -> bytes:
        return self.path + b"/" + name if self.path else name


class Inside:
    """The tree below ``root``, and which paths this layer has made."""

    def __init__(self, root: str) -> None:
        self.root = os.open(root, OPEN_FOLDER)
        self._made: set[int] = set()  # hashes: the folders on the way to a few files may have gigabytes of names
        self._device = os.fstat(self.root).st_dev
        self._last: tuple[tuple[bytes, ...], Folder] | None = None

    def close(self) -> None:
        self._forget()
        os.close(self.root)

    def folder(self, parts: tuple[bytes, ...], *, make: bool = False) -> Folder:
        """Return a folder, open until the next call. ``make``: create what is missing, root's and 0755.

        Raises :class:`Damaged` for a way through a file or another file system, or with too many links or folders;
        ``FileNotFoundError``.
        """
        if self._last is None or self._last[0] != parts:
            self._forget()
            self._last = parts, self.opened(parts, make=make)
        return self._last[1]

    def opened(self, parts: tuple[bytes, ...], *, make: bool = False) -> Folder:
        """Return a folder whose descriptor the caller closes. Raises as :meth:`folder` does."""
        fds, names, links = [os.dup(self.root)], list[bytes](), 0
        todo = list(reversed(parts))
        try:
            while todo:
                name = todo.pop()
                if name in (b"", b"."):
                    continue
                if name == b"..":
                    if names:
                        os.close(fds.pop())
                        names.pop()
                    continue
                fd = self._step(fds[-1], name, b"/".join((*names, name)), make=make)
                if fd is not None:
                    fds.append(fd)
                    names.append(name)
                    self._check(fd, len(names), name)
                    continue
                links += 1
                if links > MOST_LINKS:
                    raise Damaged(f"too many links lead to {printable(b'/'.join(parts))}")
                target = os.readlink(name, dir_fd=fds[-1])
                if target.startswith(b"/"):
                    _close(fds[1:])
                    del fds[1:], names[:]
                todo.extend(reversed(target.split(b"/")))
            return Folder(fds.pop(), b"/".join(names))
        finally:
            _close(fds)

    def remove(self, folder: Folder, name: bytes) -> None:
        """Remove what has this name, with all that is below it. Raises ``FileNotFoundError``."""
        try:
            os.unlink(name, dir_fd=folder.fd)
        except IsADirectoryError:
            self._remove_folder(folder, name, 1)

    def touch(self, path: bytes) -> None:
        """Note that this layer has made ``path``: what is found there, and the folders above it, are not removed."""
        while path and hash(path) not in self._made:
            self._made.add(hash(path))
            path = path.rpartition(b"/")[0]

    def clear(self, folder: Folder, name: bytes) -> None:
        """Remove what the layers below have at this name. Raises ``FileNotFoundError``."""
        if hash(folder.below(name)) not in self._made:
            self.remove(folder, name)
        elif stat.S_ISDIR(os.lstat(name, dir_fd=folder.fd).st_mode):
            below = Folder(os.open(name, OPEN_FOLDER, dir_fd=folder.fd), folder.below(name))
            try:
                self.clear_below(below)
            finally:
                os.close(below.fd)

    def clear_below(self, folder: Folder) -> None:
        """Remove what the layers below have in a folder."""
        self._check(folder.fd, folder.path.count(b"/") + 1, folder.path)
        for name in map(os.fsencode, os.listdir(folder.fd)):
            self.clear(folder, name)

    def _step(self, parent: int, name: bytes, path: bytes, *, make: bool) -> int | None:
        """Return the folder ``name`` opened, ``None`` if it is a link."""
        try:
            return os.open(name, OPEN_FOLDER, dir_fd=parent)
        except FileNotFoundError:
            if not make:
                raise
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            if stat.S_ISLNK(os.lstat(name, dir_fd=parent).st_mode):
                return None
            raise Damaged(f"{printable(path)} is used as a folder, but is not one") from None
        os.mkdir(name, 0o700, dir_fd=parent)
        self.touch(path)
        made = os.open(name, OPEN_FOLDER, dir_fd=parent)
        os.fchmod(made, 0o755)
        return made

    def _check(self, fd: int, depth: int, name: bytes) -> None:
        if depth > DEEPEST:
            raise Damaged(f"it has more than {DEEPEST} nested folders")
        if os.fstat(fd).st_dev != self._device:
            raise Damaged(f"{printable(name)} leads out of the image, to another file system")

    def _remove_folder(self, parent: Folder, name: bytes, depth: int) -> None:
        folder = Folder(os.open(name, OPEN_FOLDER, dir_fd=parent.fd), parent.below(name))
        try:
            self._check(folder.fd, depth, name)
            for each in map(os.fsencode, os.listdir(folder.fd)):
                try:
                    os.unlink(each, dir_fd=folder.fd)
                except IsADirectoryError:
                    self._remove_folder(folder, each, depth + 1)
        finally:
            os.close(folder.fd)
        os.rmdir(name, dir_fd=parent.fd)

    def _forget(self) -> None:
        if self._last is not None:
            os.close(self._last[1].fd)
            self._last = None


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
