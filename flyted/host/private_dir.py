"""Accesses a directory that only this process's user may touch, held open by its descriptor.

Everything below it is reached by ``*at()`` calls with ``O_NOFOLLOW``, and every file is checked after opening
(``fstat``), so that a planted link, FIFO or second name is refused instead of followed. Writes are staged beside
the target, flushed, and published by one rename: a crash or a full disk leaves the old file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from typing import TYPE_CHECKING, Self

from flyted.contract.errors import Busy, HostFailure, StoreCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STAGED = ".staged-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # NONBLOCK: a FIFO must not hang us
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REFUSED = {
    errno.ELOOP: "is a symbolic link",
    errno.ENXIO: "is not a regular file",
    errno.ENOTDIR: "is not a regular file",
    errno.EACCES: "is not readable by flyted",  # root without capabilities: the file has another owner, or mode 0
}


class PrivateDir:
    """An open directory, to be closed by ``close``. Not for several threads at once.

    Methods may raise ``OSError``, besides the errors that they name.
    """

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self.path = path

    @classmethod
    def open(cls, path: Path, *, forbidden: int) -> Self:
        """Open ``path``, or raise ``HostFailure`` for a link, another owner, or a permission bit of ``forbidden``."""
        try:
            return cls._checked(os.open(path, _DIRECTORY), path, forbidden)
        except OSError as error:
            raise HostFailure(f"cannot open the directory {path}: {error.strerror}") from error

    def private_child(self, name: str) -> PrivateDir:
        """Open the directory ``name`` below this one, with mode 0700; make it if it is missing.

        Raises ``HostFailure`` for a link, another owner, or a directory that is open to others.
        """
        path = self.path / name
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self._fd)
            return self._checked(os.open(name, _DIRECTORY, dir_fd=self._fd), path, 0o077)
        except OSError as error:
            raise HostFailure(f"cannot open the directory {path}: {error.strerror}") from error

    @classmethod
    def _checked(cls, fd: int, path: Path, forbidden: int) -> Self:
        found = os.fstat(fd)
        if found.st_uid == os.geteuid() and not found.st_mode & forbidden:
            return cls(fd, path)
        os.close(fd)
        raise HostFailure(
            f"the directory {path} is open to other users (owner {found.st_uid}, mode {found.st_mode & 0o7777:04o})",
            hint=f"check what it contains, then: chown {os.geteuid()} {path} && chmod go-w {path}",
        )

    def lock(self) -> None:
        """Make this process the only one that uses the directory, until ``close`` or its end, or raise ``Busy``."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another process uses {self.path}", hint="systemctl status flyted") from None

    def names(self) -> list[str]:
        """Return the names in the directory, in order, without files that were only staged."""
        return sorted(n for n in self._all() if not n.startswith(_STAGED))

    def _all(self) -> list[str]:
        return os.listdir(self._fd)  # noqa: PTH208 - pathlib cannot list a descriptor

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the bytes of a file of at most ``limit`` bytes; ``None`` if there is no such file.

        Raises ``StoreCorrupt`` ("is a symbolic link", …) for anything but a file that only we could have made.
        """
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _REFUSED:
                raise StoreCorrupt(_REFUSED[error.errno]) from None
            raise
        try:
            _refuse_foreign(os.fstat(fd), limit)
            with os.fdopen(fd, "rb", closefd=False) as file:
                return file.read(limit)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def staged(self, name: str, data: bytes) -> Iterator[Staged]:
        """Write ``data``, flushed, under a temporary name; it is removed at the end unless ``publish`` names it."""
        staged = Staged(self._fd, f"{_STAGED}{os.urandom(8).hex()}", name)
        try:
            staged.write(data)
            yield staged
        finally:
            staged.discard()

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place, its bytes flushed; its name is safe from a power cut after ``sync``."""
        with self.staged(name, data) as new:
            new.publish()

    def rename(self, old: str, new: str, to: PrivateDir | None = None) -> None:
        """Rename a file or a folder, here or into ``to``; it may take the place of a file, or of an empty folder."""
        there = self if to is None else to
        os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=there._fd)  # noqa: SLF001 - of our own class

    def remove(self, name: str) -> None:
        """Remove a file if it is there and can be removed; a file that stays is swept at the next start."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._fd)

    def remove_tree(self, name: str) -> None:
        """Remove a folder with all that is in it, if it is there and can be removed; follow no links."""
        shutil.rmtree(name, ignore_errors=True, dir_fd=self._fd)

    def sweep_staged(self) -> None:
        """Remove the files that a killed process had staged."""
        for name in self._all():
            if name.startswith(_STAGED):
                self.remove(name)

    def sync(self) -> None:
        """Flush the directory itself: names that were given or taken survive a power cut."""
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class Staged:
    """One file that is not yet in place."""

    def __init__(self, directory: int, temporary: str, name: str) -> None:
        self._directory = directory
        self._temporary: str | None = None
        self._wanted = temporary
        self._name = name

    def write(self, data: bytes) -> None:
        fd = os.open(self._wanted, _CREATE, 0o600, dir_fd=self._directory)
        self._temporary = self._wanted
        with os.fdopen(fd, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fsync(fd)

    def publish(self) -> None:
        """Put the file in place of whatever has its name, in one step."""
        if self._temporary is None:
            raise RuntimeError("published twice")
        os.rename(self._temporary, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._temporary = None

    def discard(self) -> None:
        if self._temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary, dir_fd=self._directory)
            self._temporary = None


def _refuse_foreign(found: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise StoreCorrupt("is not a regular file")
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise StoreCorrupt(f"is open to other users (owner {found.st_uid}, mode {found.st_mode & 0o7777:04o})")
    if found.st_nlink != 1:
        raise StoreCorrupt("has a second name (hard link)")
    if found.st_size > limit:
        raise StoreCorrupt(f"is larger than {limit} bytes")
