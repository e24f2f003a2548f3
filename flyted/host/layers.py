"""Resolves paths in the stacked layers of an image, without a mount.

The files are strangers'. Nothing is opened, no link leads out of the layers, and what only its owner may read is not
found. Source: Linux' overlayfs.rst (whiteouts and opaque directories, userxattr).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from flyted.contract.errors import StoreCorrupt
from flyted.host import foreign_file
from flyted.plan.facts import Place

MOST_LOOKED_AT = 10_000
"""Entries of one folder."""
_MOST_LINKS = 40  # as the kernel's
MOST_NAMES = 500
"""Folders and links on the way to a file: each link may name a thousand, and each is looked for in each layer."""
_OPAQUE = "user.overlay.opaque"


class Stack:
    """The layers of an image, below ``folder``. ``layers``: lowest first."""

    def __init__(self, folder: Path, layers: Sequence[str]) -> None:
        self._top_first = [f"{folder}/{each}/diff" for each in reversed(layers)]

    def real(self, path: str) -> str:
        """Return the path of the file that ``path`` leads to in the image; "" if there is none."""
        return self._walked(path) or ""

    def place(self, path: str, *, links: bool = True) -> Place:
        """Return what is at a path of the image. Without ``links``, a link is a file, too, wherever it leads."""
        where = self._walked(path) if links else path
        if where is None:
            return Place.LOOP
        found = self._layers_of(where) if where else []
        if not found:
            return Place.NOTHING
        return Place.FOLDER if stat.S_ISDIR(os.lstat(f"{found[0]}{where}").st_mode) else Place.FILE

    def leads_to(self, path: str) -> str:
        """Return where a path leads in the image, also if nothing is there yet; "" if its links lead too far."""
        return self._walked(path, beyond=True) or ""

    def _walked(self, path: str, *, beyond: bool = False) -> str | None:
        """Return the path that ``path`` leads to; "" if there is none, ``None`` if its links lead too far.

        ``beyond``: what is not there counts as a folder without anything in it.
        """
        todo, done = path.split("/")[::-1], list[str]()
        visible, links, names = [self._top_first], 0, 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                done = done[:-1]
                visible = visible[: len(done) + 1]
                continue
            names += 1
            if names > MOST_NAMES:
                return None
            found = _entries(visible[-1], "/".join((*done, name)))
            if not found:
                if not beyond:
                    return ""
                done.append(name)
                visible.append([])
                continue
            if (target := _link(f"{found[0]}/{'/'.join((*done, name))}")) is None:
                done.append(name)
                visible.append(found)
                continue
            links += 1
            if links > _MOST_LINKS:
                return None
            if target.startswith("/"):
                done, visible = [], [self._top_first]
            todo += target.split("/")[::-1]
        return "/" + "/".join(done)

    def text(self, path: str, limit: int) -> str:
        """Return the text of a file of the image, of at most ``limit`` bytes; "" if there is none to be read."""
        where = self.real(path)
        found = self._layers_of(where) if where else []
        try:
            return foreign_file.read(Path(f"{found[0]}{where}"), limit) if found else ""
        except (OSError, StoreCorrupt, UnicodeDecodeError):
            return ""

    def below(self, path: str) -> list[tuple[str, int]]:
        """Return the folders in a folder of the image, each with the machine's user whom it belongs to, by name.

        They are :data:`MOST_LOOKED_AT` at most.
        """
        if self.real(path) != path:
            return []
        found = self._in(path, folders=True)
        return sorted((name, status.st_uid) for name, status in found if stat.S_ISDIR(status.st_mode))

    def size(self, path: str, most_files: int, most_bytes: int) -> tuple[int, int]:
        """Return how many files and folders, and bytes, are below a folder; it counts little further than these."""
        files = size = 0
        todo = [path]
        while todo and files <= most_files and size <= most_bytes:
            for name, status in self._in(todo.pop()):
                files, size = files + 1, size + (status.st_size if stat.S_ISREG(status.st_mode) else 0)
                todo += [name] if stat.S_ISDIR(status.st_mode) else []
        return files, size

    def _in(self, path: str, *, folders: bool = False) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the path of each entry of a folder, which itself is no link, and what it is.

        ``folders``: only what is a folder in one of the layers. A stranger may have made a million: the first ones by
        name are enough.
        """
        layers = self._layers_of(path)
        names = set[str]()
        for layer in layers:
            with contextlib.suppress(OSError), os.scandir(f"{layer}{path}") as entries:
                names.update(each.name for each in entries if not folders or each.is_dir(follow_symlinks=False))
        for name in sorted(names)[:MOST_LOOKED_AT]:
            below = f"{path.rstrip('/')}/{name}"
            with contextlib.suppress(OSError):
                if found := _entries(layers, below.lstrip("/")):
                    yield below, os.lstat(f"{found[0]}{below}")

    def _layers_of(self, path: str) -> list[str]:
        """Return the layers that make up an entry, highest first. ``path``: without links."""
        layers, here = self._top_first, ""
        for name in filter(None, path.split("/")):
            here = f"{here}/{name}"
            layers = _entries(layers, here.lstrip("/"))
        return layers


def _entries(layers: Sequence[str], path: str) -> list[str]:
    """Return the layers that make up an entry, highest first: several for a folder, one for anything else."""
    found: list[str] = []
    for layer in layers:
        try:
            status = os.lstat(f"{layer}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # a folder that only its owner may enter, or a name that is too long
            return []
        folder = stat.S_ISDIR(status.st_mode)
        if (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0) or (found and not folder):
            break
        found.append(layer)
        if not folder or _opaque(f"{layer}/{path}"):
            break
    return found


def _opaque(path: str) -> bool:
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _link(path: str) -> str | None:
    try:
        return str(Path(path).readlink())
    except OSError:  # no link
        return None
