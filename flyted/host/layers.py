"""Looks into layers of images as they are stacked, without a mount: which file a path leads to.

The files are strangers'. Nothing is opened, no link leads out of the layers, and what only its owner may read is not
found. Source: Linux' overlayfs.rst (whiteouts and opaque directories, userxattr).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

_MOST_LINKS = 40  # as the kernel's
_OPAQUE = "user.overlay.opaque"


class Stack:
    """The layers of an image, below ``folder``. ``layers``: lowest first."""

    def __init__(self, folder: Path, layers: Sequence[str]) -> None:
        self._top_first = [f"{folder}/{each}/diff" for each in reversed(layers)]

    def real(self, path: str) -> str:
        """Return the path of the file that ``path`` leads to in the image; "" if there is none."""
        todo, done = path.split("/")[::-1], list[str]()
        visible, links = [self._top_first], 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                done = done[:-1]
                visible = visible[: len(done) + 1]
                continue
            found = _entries(visible[-1], "/".join((*done, name)))
            if not found:
                return ""
            if (target := _link(f"{found[0]}/{'/'.join((*done, name))}")) is None:
                done.append(name)
                visible.append(found)
                continue
            links += 1
            if links > _MOST_LINKS:
                return ""
            if target.startswith("/"):
                done, visible = [], [self._top_first]
            todo += target.split("/")[::-1]
        return "/" + "/".join(done)


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
