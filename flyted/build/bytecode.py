"""Compiles an image's modules to byte code, each once: images share compiled files by hard links, as they do sources.

The store of compiled files is beside the images, on their mount. A file in it is named by all that its content depends
on: the source's bytes, its time and size, which are in the compiled file's head (PEP 552), and the Python that compiled.
So images of two Pythons have no file in common, and a package cannot bring the byte code of another one's module: what
a wheel has in ``__pycache__`` is replaced, and only what was compiled here from the source is put into the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .pythons import Python, Release

STORE = ".bytecode"  # in the folder of all images


@dataclass(frozen=True)
class Missing:
    """A module of an image that has no compiled file in the store yet."""

    source: Path
    size: int  # of the source, in bytes
    file: Path  # what Python will look for
    shared: Path  # the name in the store
    before: int  # the inode of what the wheel has as ``file``; 0 if it has nothing


def compile_all(root: Path, python: Python, release: Release, store: Path, scratch: Path) -> list[Missing]:
    """Give all modules of the image ``root`` byte code, from ``store`` where it is there; return what was not.

    Apps cannot write their image, so each of their starts would compile again. The Python that the environment was
    made from compiles, without ``site``: so a build of wheels alone runs none of their code. What is returned is
    compiled, but not in ``store`` yet, see :func:`share`.
    """
    missing = []
    for source, found in _modules(root / "lib"):
        file = source.parent / "__pycache__" / f"{source.stem}.{release.cache_tag}.pyc"
        shared = store / f"{release.cache_tag}-{release.magic}" / _key(source, found)
        if not _linked(shared, file):
            missing.append(Missing(source, found.st_size, file, shared, _inode(file)))
    _compile(root, python, missing, scratch)
    return missing


def share(compiled: list[Missing]) -> None:
    """Put what :func:`compile_all` compiled into the store.

    Call it when the files are on the disk: after a power failure, the store must not have names of empty files. A file
    that cannot be shared, on a full disk for example, is compiled again with the next image.
    """
    for each in compiled:
        if _inode(each.file) not in (0, each.before):
            with contextlib.suppress(OSError):
                each.shared.parent.mkdir(parents=True, exist_ok=True)
                os.link(each.file, each.shared)


def prune(store: Path) -> None:
    """Remove the compiled files that no image has any more."""
    for folder, _, files in os.walk(store, topdown=False):
        for path in (Path(folder, name) for name in files):
            if path.lstat().st_nlink == 1:
                path.unlink()
        with contextlib.suppress(OSError):  # it is not empty
            Path(folder).rmdir()


def _modules(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield all modules below ``folder``, and what lstat(2) says of each.

    compileall reads one name from each line, so a line feed in a name would make it another file's; no module has one.
    """
    for where, _, files in os.walk(folder):
        for path in (Path(where, name) for name in files if name.endswith(".py")):
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and str(path).isprintable():
                yield path, found


def _key(source: Path, found: os.stat_result) -> str:
    digest = hashlib.sha256(f"{int(found.st_mtime)} {found.st_size}\n".encode())
    digest.update(source.read_bytes())
    return digest.hexdigest()


def _inode(path: Path) -> int:
    """Return the inode of a regular file; 0 for anything else."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_ino if stat.S_ISREG(found.st_mode) else 0


def _linked(shared: Path, file: Path) -> bool:
    """Make an image's compiled file a link to the shared one; return ``False`` if there is none, or no link."""
    if not shared.exists():
        return False
    try:
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        os.link(shared, file)
    except OSError:  # EXDEV in an isolated build, EMLINK
        return False
    return True


def _compile(root: Path, python: Python, missing: list[Missing], scratch: Path) -> None:
    """Compile modules with a process for each processor, since compileall goes through a list with one.

    The compiled files name their sources relative to ``root``, since other images will have them; an import puts the
    real name in. Errors of compileall are ignored: packages ship templates and tests that are not valid Python.
    """
    ordered = sorted(missing, key=lambda each: each.size, reverse=True)
    running = []
    processors = len(os.sched_getaffinity(0))
    for number in range(min(processors, len(ordered))):
        listed = scratch / f"modules-{number}.txt"
        part = ordered[number::processors]
        listed.write_text("".join(f"{each.source}\n" for each in part), encoding="utf-8")
        words = [python.path, "-I", "-S", "-m", "compileall", "-q", "-s", str(root), "-i", str(listed)]
        running.append(
            subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
    for process in running:
        process.wait()
