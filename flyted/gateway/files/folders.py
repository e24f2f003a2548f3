"""Packs what an image's layers copy out of a build's context, as flytectl does: a bundle for each path that they name.

The same files give the same bytes as in ``flytectl/loader/context.py``, so that the layers made of them have the same
ids. Bundles stay for as long as there is room: an image whose bundles are gone counts as not built.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from flyted.base import files
from flyted.contract.bundles import MOST
from flyted.gateway.files.archive import UNPACKED_BYTES, Archive

EPOCH = 315_532_800
"""The time of every file in a bundle: 1 January 1980."""
TOTAL_BYTES = 4 << 30
_PROJECT = ("pyproject.toml", "setup.py")


class Folders:
    """The folder of bundles, each named by its SHA-256; beyond ``TOTAL_BYTES`` the least recently used are deleted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in folder.glob(".*"):  # what a killed process was writing
            path.unlink(missing_ok=True)

    @property
    def place(self) -> Path:
        """The folder, in which an archive may be unpacked."""
        return self._folder

    def find(self, digest: str) -> Path | None:
        """Return the file of a bundle, None if there is none; note that it was used now."""
        path = self._folder / f"{digest}.tar.gz"
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def keep(self, spec: dict[str, Any], archive: Archive) -> dict[str, str]:
        """Store a bundle of each path of ``archive`` that the layers of an ImageSpec name; return path → SHA-256.

        Name a uv project's editable dependencies in its layer, which Flyte's IDL cannot. Raise OSError if the disk
        refuses.
        """
        layers = [pair for layer in spec.get("layers", []) for pair in layer.items()]
        paths = {posixpath.normpath(path) for kind, body in layers for path in _named(kind, body, archive) if path}
        there = sorted(path for path in paths if archive.below(path))
        size = sum(archive.members[name].size for path in there for name in archive.below(path))
        there = there if len(there) < MOST and size <= UNPACKED_BYTES else ["."]  # paths may be in each other
        found = {path: self._keep(path, archive) for path in there}
        self._sweep()
        return found

    def _keep(self, path: str, archive: Archive) -> str:
        with files.aside(self._folder, 0o600) as new:
            digest = _Digest(new.file)
            _pack(cast("BinaryIO", digest), path, archive)
            new.publish(self._folder / f"{digest.hex}.tar.gz")
        return digest.hex

    def _sweep(self) -> None:
        left = TOTAL_BYTES
        found = []
        for path in self._folder.glob("*.tar.gz"):
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat(), path))
        for status, path in sorted(found, key=lambda each: -each[0].st_mtime):
            left -= status.st_size
            if left < 0:
                path.unlink(missing_ok=True)


class _Digest:
    """A file that is written, and the SHA-256 of what was."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._seen = file, hashlib.sha256()

    @property
    def hex(self) -> str:
        return self._seen.hexdigest()

    def write(self, data: bytes) -> int:
        self._seen.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _pack(out: BinaryIO, path: str, archive: Archive) -> None:
    """Write a bundle of what is at ``path``: sorted, each file named from the last part of ``path`` on."""
    above = posixpath.dirname(path) or "."
    names = {posixpath.relpath(name, above): name for name in archive.below(path)}
    with (
        gzip.GzipFile(filename="", fileobj=out, mode="wb", mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(names):
            entry, member = tarfile.TarInfo(name), archive.members[names[name]]
            entry.mtime = EPOCH
            if member.issym():
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, member.linkname, 0o777
                tar.addfile(entry)
                continue
            entry.size, entry.mode = member.size, 0o755 if member.mode & 0o100 else 0o644
            tar.addfile(entry, archive.content(member))


def _named(kind: str, body: dict[str, Any], archive: Archive) -> Iterator[str]:
    """Yield the paths of the context that a layer reads."""
    match kind:
        case "pythonWheels":
            yield body.get("dir", "")
        case "copyConfig":
            yield body.get("src", "")
        case "poetryProject":
            yield from (body.get("pyproject", ""), body.get("poetryLock", ""))
        case "uvProject":
            yield from _of_uv(body, archive)
        case _:
            return


def _of_uv(body: dict[str, Any], archive: Archive) -> Iterator[str]:
    project = posixpath.normpath(body.get("pyproject", "."))
    yield body.get("uvlock", "")
    if "--no-install-project" not in body.get("options", {}).get("extraArgs", ""):
        yield project
        return
    yield f"{project}/pyproject.toml"
    inside = archive.below(posixpath.normpath(body.get("sourceDir", project)))
    paths = sorted((PurePosixPath(name) for name in inside), key=lambda each: (len(each.parts), each))
    found: list[PurePosixPath] = []
    for file in (each for each in paths if each.name in _PROJECT):
        new = file.parent != PurePosixPath(project) and not any(file.is_relative_to(other) for other in found)
        found += [file.parent] if new else []
    body["editable"] = [str(folder) for folder in found]
    yield from body["editable"]
