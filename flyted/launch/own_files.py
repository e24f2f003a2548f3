"""Moves what an app wrote into a folder of code to its working folder, before the folder is deleted.

An app writes there when it resolves links (``Path(__file__).resolve().parent``) or changes a file of its bundle in
place; and in flyted 0.1.0 the code's folder was the working folder. No file is deleted: if two files have the same
name, the newer one gets it, and the other is kept in ``STATE/kept-from-earlier-deploys``.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Collection, Iterator

from .bundle import BYTE_CODE, Record

KEPT = "kept-from-earlier-deploys"
PARAMETERS = "flyte-parameters.json"  # parameters.py
COVERED = ".flyted-covered"
"""The folder, in a folder of code, of the bundle's files that a link to the app's own file replaces (``arrange``)."""
_LOGS = ("-wal", "-shm", "-journal")  # the endings of the files that SQLite keeps beside a database


class Mover:
    """The mover of files into the working folder ``work``.

    ``ours(path, name)``: reports whether a deploy made that link. ``begins(names)``: is called before files are moved.
    """

    def __init__(
        self,
        state: str,
        work: str,
        ours: Callable[[str, str], bool],
        begins: Callable[[list[str]], None] = lambda _names: None,
    ) -> None:
        self._kept, self._work, self._ours, self._begins = os.path.join(state, KEPT), work, ours, begins
        self.moved: list[str] = []

    def empty(self, folder: str, record: Record | None, *, running: bool) -> None:
        """Move the files that are not as they were unpacked.

        ``running``: a process runs this code, so each moved file is replaced by a link. Without a record no file may
        replace code: all go to :data:`KEPT`. Raise ``OSError`` if a file operation fails.
        """
        if record is None:
            for name in self._entries(folder):
                self._keep(os.path.join(folder, name), name, folder)
            return
        names = self.own(folder, record)
        self._begins(names)
        for name in names:
            self._move(folder, name, running=running)

    def own(self, folder: str, record: Record) -> list[str]:
        """Return the names of the files in ``folder`` that are not as they were unpacked, in the order to move them.

        An SQLite database comes with its log, and after it. As long as the log is not written back, the database may
        be as it was unpacked, and neither is complete without the other. A program that opens the database between the
        two moves finds the log by both names. Raise ``OSError`` if a file cannot be examined.
        """
        names = set(self._entries(folder, record.folders))
        changed = {name for name in names if record.files.get(name) != _state(os.path.join(folder, name))}
        logged = {name.removesuffix(end) for name in changed for end in _LOGS if name.endswith(end)}
        return sorted(changed | logged & names, key=lambda name: (not name.endswith(_LOGS), name))

    def empty_unrecorded(self, folder: str, code: str, bundle: Record, *, same: bool, running: bool) -> None:
        """Move the app's files out of a working folder of flyted 0.1.0, for which there is no record.

        ``code``: the folder of the bundle that starts now. If ``folder`` has the ``same`` bundle, every file that
        differs is the app's. If it has another, a file may be older code: that is moved to :data:`KEPT`, so that it
        does not replace new code. Raise ``OSError`` if a file operation fails.
        """
        for name in self._entries(folder):
            path = os.path.join(folder, name)
            if name == PARAMETERS:
                continue  # launch wrote it, and does so at each start
            if name in bundle.files and equal(path, os.path.join(code, name)):
                continue
            if not same and (name in bundle.files or name.endswith(".py")):
                self._keep(path, name, folder)
            else:
                self._move(folder, name, running=running)

    def _entries(self, folder: str, folders: Collection[str] = ()) -> Iterator[str]:
        """Yield the files and links below ``folder``, and the empty folders that are not in ``folders``.

        Byte code is skipped, and so are links into the working folder (files that have been moved), sockets and pipes.
        """
        for top, below, files in os.walk(folder):
            if top == folder and COVERED in below:
                below.remove(COVERED)
            inside = os.path.relpath(top, folder)
            inside = "" if inside == "." else f"{inside}/"
            byte_code = os.path.basename(top) == BYTE_CODE
            for name in [*files, *(each for each in below if os.path.islink(os.path.join(top, each)))]:
                path = os.path.join(top, name)
                if byte_code and name.endswith(".pyc"):
                    continue
                if os.path.islink(path):
                    if not os.readlink(path).startswith(f"{self._work}/"):
                        yield inside + name
                elif os.path.isfile(path):
                    yield inside + name
            if inside and not below and not files and not byte_code and inside[:-1] not in folders:
                yield inside[:-1]

    def _move(self, folder: str, name: str, *, running: bool) -> None:
        source, target = os.path.join(folder, name), os.path.join(self._work, name)
        if os.path.isdir(source) and not os.path.islink(source):
            self._make_folders(target)
            return
        if not self._make_folders(os.path.dirname(target)):
            self._keep(source, name, folder)  # the app has a file where the folder would be
            return
        if os.path.lexists(target) and not self._ours(target, name):
            if os.path.isdir(target) or _changed(source) < _changed(target):
                self._keep(source, name, folder)
                return
            if not _same(source, target):
                self._keep(target, name, self._work)
        _place(source, target, link_back=running and not os.path.islink(source))
        self.moved.append(name)

    def _keep(self, source: str, name: str, folder: str) -> None:
        if os.path.isdir(source) and not os.path.islink(source):
            return  # an empty folder, which is not worth keeping
        target = os.path.join(self._kept, os.path.basename(folder)[:12], name)
        number = 1
        while os.path.lexists(target if number == 1 else f"{target}.{number}"):
            number += 1
        target = target if number == 1 else f"{target}.{number}"
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
        _place(source, target, link_back=False)

    def _make_folders(self, path: str) -> bool:
        try:
            os.makedirs(path, 0o700, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            return False
        return True


def _place(source: str, target: str, *, link_back: bool) -> None:
    """Move a file to its new name, at which it appears complete or not at all, also from another file system.

    ``link_back``: leave a link to the new name at the old one.
    """
    fresh = f"{target}.{os.getpid()}.moving"
    if not (os.path.lexists(target) and _same(source, target)):  # otherwise a crash left the file with both names
        try:
            if not link_back:
                os.replace(source, target)
                return
            os.link(source, fresh)
        except OSError:
            shutil.copy2(source, fresh, follow_symlinks=False)
        os.replace(fresh, target)
    if link_back:
        os.symlink(target, fresh)
        os.replace(fresh, source)
    else:
        os.unlink(source)


def _state(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_size, found.st_mtime_ns


def _changed(path: str) -> int:
    return os.lstat(path).st_mtime_ns


def _same(one: str, other: str) -> bool:
    return os.path.samestat(os.lstat(one), os.lstat(other))


def has_log(path: str) -> bool:
    """Report whether SQLite keeps a log beside a file, which is not a complete database then."""
    return any(os.path.lexists(path + end) for end in _LOGS)


def equal(one: str, other: str) -> bool:
    """Report whether two files have the same content. False if either is a link or cannot be read."""
    try:
        return not os.path.islink(one) and not os.path.islink(other) and filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
