"""Handles the folder of an image: locks it while it is made, empties it, makes it readable for apps, recognises it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from .failed import Failed, say
from .words import EX_TEMPFAIL, RECORD


@contextlib.contextmanager
def locked(root: Path, *, wait: bool = True) -> Iterator[None]:
    """Make ``root`` if need be and hold its lock: one build or removal of an image at a time.

    The lock is on the folder itself, so a builder that had to wait checks that the folder was not removed meanwhile.
    Raises :class:`Failed` if another builder holds the lock and ``wait`` is false.
    """
    while True:
        root.mkdir(mode=0o755, exist_ok=True)
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _lock(folder, root.name, wait=wait)
            if _same(folder, root):
                yield
                return
        finally:
            os.close(folder)


def _lock(folder: int, name: str, *, wait: bool) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise Failed(EX_TEMPFAIL, f"image {name} is being built") from None
        say(f"image {name} is already being built; waiting for it")
        fcntl.flock(folder, fcntl.LOCK_EX)


def _same(folder: int, root: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(folder), root.stat())
    except FileNotFoundError:
        return False


def empty(root: Path) -> None:
    """Remove the content of ``root``, the record first: a half-removed image must not pass for a complete one."""
    (root / RECORD).unlink(missing_ok=True)
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()


def interpreter(root: Path) -> tuple[str, str]:
    """Return what decides which Python the environment starts: the target of its link, and the text of pyvenv.cfg."""
    python, settings = root / "bin/python", root / "pyvenv.cfg"
    return str(python.readlink()) if python.is_symlink() else "", settings.read_text(errors="replace")


def make_readable(root: Path) -> None:
    """Make the image readable for every app and writable for us alone, whatever modes the wheels contain."""
    for path, mode in _entries(root):
        if stat.S_ISLNK(mode):
            continue
        wanted = mode & ~0o022 | (0o555 if stat.S_ISDIR(mode) or mode & 0o100 else 0o444)
        if stat.S_IMODE(wanted) != stat.S_IMODE(mode):
            path.chmod(stat.S_IMODE(wanted))


def stamp(root: Path) -> str:
    """Return a digest of names, sizes and link targets: it shows a lost or truncated file. Byte code is not in it."""
    digest = hashlib.sha256()
    for path, mode in _entries(root):
        name = str(path.relative_to(root))
        if "__pycache__" in name or name == RECORD:
            continue
        digest.update(f"{name}\0{_looks(path, mode)}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _looks(path: Path, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return str(path.readlink())
    return "/" if stat.S_ISDIR(mode) else str(path.lstat().st_size)


def size(root: Path) -> int:
    """Return the bytes of all files, those that images share by hard links too."""
    return sum(path.lstat().st_size for path, mode in _entries(root) if stat.S_ISREG(mode))


def count_packages(root: Path) -> int:
    """Count the installed distributions (PEP 376: one ``.dist-info`` each)."""
    return sum(1 for _ in root.glob("lib/python*/site-packages/*.dist-info"))


def _entries(root: Path) -> Iterator[tuple[Path, int]]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(folders + files):
            path = Path(folder, name)
            yield path, path.lstat().st_mode
