"""Moves what an app wrote into a folder of code to its working folder, before the folder is deleted.

An app writes there when it resolves links (``Path(__file__).resolve().parent``) or changes a file of its bundle in
place; and flyted 0.1.0 had the code's folder as working folder. Nothing is deleted: where two files want one name the
newer one has it, and the other is kept in ``STATE/kept-from-earlier-deploys``.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Iterable, Iterator

from .bundle import BYTE_CODE, Record

KEPT = "kept-from-earlier-deploys"
PARAMETERS = "flyte-parameters.json"  # parameters.py
COVERED = ".flyted-covered"
"""Below a folder of code: the bundle's files in whose place a link to the app's own is (``arrange``)."""
_LOGS = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database


class Mover:
    """Moves files into the working folder ``work``.

    ``ours(path, name)``: whether a deploy made that link. ``begins(names)`` is told what is moved next.
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
        """Moves what is not as it was unpacked. ``running``: somebody runs this code and finds its files by links.

        Without a record nothing is moved in a way that could replace code: all goes to :data:`KEPT`.
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
        """What in ``folder`` is not as it was unpacked; a database of SQLite's comes with its log, and after it.

        While the log is not written back the database may be as it was unpacked, and one is nothing without the other.
        Whoever opens the database between the two moves finds the log by both names.
        """
        names = set(self._entries(folder, record.folders))
        changed = {name for name in names if record.files.get(name) != _state(os.path.join(folder, name))}
        logged = {name.removesuffix(end) for name in changed for end in _LOGS if name.endswith(end)}
        return sorted(changed | logged & names, key=lambda name: (not name.endswith(_LOGS), name))

    def empty_unrecorded(self, folder: str, code: str, bundle: Record, *, same: bool, running: bool) -> None:
        """The same for a working folder of flyted 0.1.0, of which there is no record.

        ``code``: the folder of the bundle that starts now. If it is the ``same`` bundle, what differs is the app's. Of
        another one it may be older code: that is kept, and does not come in the way.
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

    def _entries(self, folder: str, folders: Iterable[str] = ()) -> Iterator[str]:
        """Files and links below ``folder``, and empty folders but ``folders``. Byte code is nobody's work.

        What has been moved is a link into the working folder, and is passed over, as are sockets and pipes.
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
            self._keep(source, name, folder)  # a file of the app's is where the folder would be
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
            return  # an empty folder holds nothing
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
    """Moves a file to its new name, at which it is whole or not at all; also from another file system."""
    fresh = f"{target}.{os.getpid()}.moving"
    if not (os.path.lexists(target) and _same(source, target)):  # else a crash came between the two names
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
    """Whether SQLite keeps something beside a file, which is no whole database then."""
    return any(os.path.lexists(path + end) for end in _LOGS)


def equal(one: str, other: str) -> bool:
    """Whether two files hold the same; a link is no file."""
    try:
        return not os.path.islink(one) and not os.path.islink(other) and filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
