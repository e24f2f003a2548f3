"""Makes the code bundle: the SDK selects the files, and they are packed so that the same files give the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

from .failure import LoadError
from .sdk import find

EPOCH = 315_532_800  # 1 January 1980: zip and some build tools refuse earlier times
DEEPEST = 200  # nested folders: the limit at which flyted unpacks (launch/unpack.py)
_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders in which packages are installed, also those of another environment (``PYTHONPATH``)."""
_DATA = ("templates", "static", "assets", "public", "data")
LARGEST = 256 * 2**20  # bytes before compression
CODE = "the code bundle"
SMALLER = "include fewer files; download models and data sets when the app starts"


class Bundle(NamedTuple):
    """A gzip-compressed tar file, and the paths in it."""

    data: bytes
    names: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """The SHA-256 of ``data``, which names the bundle everywhere."""
        return hashlib.sha256(self.data).hexdigest()


def build(root: Path, must_have: Path, environments: list[Any]) -> Bundle:
    """Pack the files that ``flyte serve`` would upload: the imported modules below ``root`` and the ``include`` files.

    Raise LoadError("bundle") if the SDK leaves ``must_have`` out, if a file cannot be read, is outside of the root or
    nested too deep, or if the bundle is too large.
    """
    files = _listed(root, environments)
    names = {os.path.relpath(file, root): file for file in files}
    wanted = os.path.relpath(must_have, root)
    if wanted not in names:
        raise LoadError(
            "bundle",
            f"the SDK leaves {wanted} out of the code bundle of {root}",
            hint="links out of the folder and files of a Python environment are not sent: move the file",
        )
    deep = next((name for name in names if name.count(os.sep) >= DEEPEST), "")
    if deep:
        raise LoadError(
            "bundle",
            f"{deep[:80]} is more than {DEEPEST} folders deep in {root}",
            hint="move it up, or remove it from include=",
        )
    return Bundle(packed(names), tuple(sorted(names)))


def _listed(root: Path, environments: list[Any]) -> list[str]:
    include = find("flyte._code_bundle._includes", "collect_env_include_files")
    listing = find("flyte._code_bundle.bundle", "list_files_to_bundle")
    ignores = [find("flyte._code_bundle._ignore", name) for name in ("StandardIgnore", "GitIgnore", "FlyteIgnore")]
    try:
        extra = include(environments)
        files, _ = listing(root, True, *ignores, copy_style="loaded_modules", additional_files=extra or None)  # noqa: FBT003
    except ValueError as error:
        hint = "see include= of the environment, and --root-dir of flytectl serve"
        raise LoadError("bundle", f"{error}", hint=hint) from error
    except OSError as error:
        raise unreadable(error) from error
    return [str(file) for file in files]


def outside(root: Path, files: dict[str, str], libraries: list[str]) -> dict[str, str]:
    """Return the imported modules of the user's own that are not below ``root``.

    ``files``: name → resolved path. ``libraries``: folders of modules that are not the user's.
    """
    known = tuple(os.path.join(os.path.realpath(folder), "") for folder in (str(root), *libraries))  # noqa: PTH118
    return {
        name: file
        for name, file in files.items()
        if not file.startswith(known) and _INSTALLED.isdisjoint(Path(file).parts)
    }


def packed(names: dict[str, str], what: str = CODE, hint: str = SMALLER, *, links: bool = False) -> bytes:
    """Pack the files, sorted, without times, owners and umask, so that a second call gives the same bytes.

    ``names``: name in the bundle → file. ``what`` and ``hint``: for messages. ``links``: symbolic links stay links.
    Raise LoadError("bundle") for a file that cannot be read, and for more than ``LARGEST`` bytes.
    """
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(names):
            entry = tarfile.TarInfo(Path(name).as_posix())
            entry.mtime = EPOCH
            if links and Path(names[name]).is_symlink():
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, str(Path(names[name]).readlink()), 0o777
                tar.addfile(entry)
                continue
            data, executable = _content(names[name], LARGEST - plain.tell(), what, hint)
            entry.size, entry.mode = len(data), 0o755 if executable else 0o644
            tar.addfile(entry, io.BytesIO(data))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=0, compresslevel=6) as stream:
        stream.write(plain.getbuffer())
    return packed.getvalue()


def _content(path: str, room: int, what: str, hint: str) -> tuple[bytes, bool]:
    """Return a file's content, and whether its owner may execute it.

    Raise LoadError("bundle") if it has more than ``room`` bytes, without reading it further, or cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(max(room, 0) + 1)
            executable = bool(os.fstat(stream.fileno()).st_mode & stat.S_IXUSR)
    except OSError as error:
        raise unreadable(error, what) from error
    if len(data) > room:
        raise LoadError("bundle", f"{what} is larger than {LARGEST // 2**20} MiB: {path} does not fit", hint=hint)
    return data, executable


def unreadable(error: OSError, what: str = CODE) -> LoadError:
    """Return the error for a file that cannot be read. ``what``: what it is read for."""
    where = "include=" if what == CODE else "the image"
    return LoadError(
        "bundle",
        f"{error.filename} cannot be read for {what}: {error.strerror}",
        hint=f"check its permissions (ls -l), or remove it from {where}",
    )


def unsent(folder: Path, root: Path, names: set[str]) -> list[str]:
    """Return the folders beside the app's file that are named like folders of data, and have no file in the bundle."""
    found = []
    for name in _DATA:
        inside = os.path.relpath(folder / name, root) + os.sep
        if (folder / name).is_dir() and not any(each.startswith(inside) for each in names):
            found.append(name)
    return found
