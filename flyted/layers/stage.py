"""Reads the files of another stage: a tree that a stranger's commands have made, with links to anywhere.

The tree's root is an open folder, and every way begins there (inside.py): so no link leads out of the stage.

``COPY --from`` reads the other stage as an overlay of its own. ``RUN --mount=from=`` shows a part of such an overlay;
changes of a writable one are dropped with the step.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from . import archive
from .archive import Entry
from .compression import PIECE
from .copying import Item
from .damaged import Damaged, printable
from .inside import DEEPEST, MOST_LINKS, OPEN_FOLDER, Folder, Inside
from .patterns import matches_name

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def items(tree: Inside, source: str, *, glob: bool = False) -> Iterator[Item]:
    """Yield the file at ``source``, and all below it; under the names that ``source`` has, whatever links lead there.

    Devices, pipes and sockets are left out. Raises :class:`.damaged.Damaged` for a way with too many links or folders.
    """
    parts = archive.components(os.fsencode(source))
    links: dict[tuple[int, int], bytes] = {}
    for each in _matching(tree, parts) if glob else [parts]:
        found = _found(tree, each)
        if found is not None:
            try:
                yield from _walk(found[0], found[1], each, links)
            finally:
                os.close(found[0].fd)


def real_path(tree: Inside, source: str) -> str:
    """Return the real path of ``source`` below the root, without links on the way; "." for the root itself.

    Raises ``FileNotFoundError``, and :class:`.damaged.Damaged` as :func:`items` does.
    """
    found = _found(tree, archive.components(os.fsencode(source)))
    if found is None:
        raise FileNotFoundError(source)
    folder, name = found
    os.close(folder.fd)
    return os.fsdecode(folder.below(name) if name else folder.path) or "."


def _found(tree: Inside, parts: tuple[bytes, ...]) -> tuple[Folder, bytes] | None:
    """Return an open folder and a name in it that is no link; "" for the folder itself. None: nothing is there."""
    for _ in range(MOST_LINKS):
        try:
            if not parts or parts[-1] in (b"", b".", b".."):
                return tree.opened(parts), b""
            folder = tree.opened(parts[:-1])
        except FileNotFoundError:
            return None
        try:
            if not stat.S_ISLNK(os.lstat(parts[-1], dir_fd=folder.fd).st_mode):
                return folder, parts[-1]
            target = os.readlink(parts[-1], dir_fd=folder.fd)
        except FileNotFoundError:
            os.close(folder.fd)
            return None
        os.close(folder.fd)
        parts = (
            tuple(target.split(b"/")) if target.startswith(b"/") else (*folder.path.split(b"/"), *target.split(b"/"))
        )
    raise Damaged(f"too many links lead to {printable(b'/'.join(parts))}")


def _matching(tree: Inside, pattern: tuple[bytes, ...]) -> list[tuple[bytes, ...]]:
    """Return the paths that match a pattern, in order."""
    found: list[tuple[bytes, ...]] = [()]
    for each in pattern:
        found = [(*path, name) for path in found for name in _names(tree, path) if matches_name(name, each)]
    return found


def _names(tree: Inside, path: tuple[bytes, ...]) -> list[bytes]:
    try:
        folder = tree.opened(path)
    except (FileNotFoundError, Damaged):
        return []  # no folder
    try:
        return sorted(map(os.fsencode, os.listdir(folder.fd)))
    finally:
        os.close(folder.fd)


def _walk(
    folder: Folder, name: bytes, parts: tuple[bytes, ...], links: dict[tuple[int, int], bytes]
) -> Iterator[Item]:
    """Yield one thing and all that is below it. ``links``: files that have been yielded and have more names."""
    there = os.lstat(name, dir_fd=folder.fd) if name else os.fstat(folder.fd)
    if stat.S_ISDIR(there.st_mode):
        yield _entry(parts, archive.FOLDER, there), ()
        yield from _below(folder, name, parts, links)
    elif stat.S_ISLNK(there.st_mode):
        yield _entry(parts, archive.SYMLINK, there, os.readlink(name, dir_fd=folder.fd)), ()
    elif stat.S_ISREG(there.st_mode):
        first = links.setdefault((there.st_dev, there.st_ino), b"/".join(parts)) if there.st_nlink > 1 else b""
        if first and first != b"/".join(parts):
            yield _entry(parts, archive.HARD_LINK, there, first), ()
        else:
            yield _entry(parts, archive.FILE, there), _content(folder.fd, name)


def _below(
    folder: Folder, name: bytes, parts: tuple[bytes, ...], links: dict[tuple[int, int], bytes]
) -> Iterator[Item]:
    if len(parts) > DEEPEST:
        raise Damaged(f"it has more than {DEEPEST} nested folders")
    fd = os.open(name or b".", OPEN_FOLDER, dir_fd=folder.fd)
    try:
        for each in sorted(map(os.fsencode, os.listdir(fd))):
            yield from _walk(Folder(fd, folder.below(name)), each, (*parts, each), links)
    finally:
        os.close(fd)


def _content(folder: int, name: bytes) -> Iterator[bytes]:
    with open(os.open(name, _FILE, dir_fd=folder), "rb", buffering=0) as file:
        yield from iter(lambda: file.read(PIECE), b"")


def _entry(parts: tuple[bytes, ...], kind: bytes, there: os.stat_result, link: bytes = b"") -> Entry:
    mode = stat.S_IMODE(there.st_mode)
    return Entry(parts, kind, mode, there.st_uid, there.st_gid, there.st_size, there.st_mtime_ns, link)
