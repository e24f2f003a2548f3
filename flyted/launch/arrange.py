"""Makes the app's working folder fit a bundle, at the bundle's first start; later starts find it done (``workdir``).

Files that the app wrote beside its code move to the working folder, the bundle's files become links there, and old
code is deleted. A file of the app's own stays where it is, even if the bundle has a file of the same name.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable

from . import bundle as bundles
from . import renamed
from .links import OWN, code_link, link, names_text, read_link
from .own_files import COVERED, Mover, equal, has_log
from .surroundings import say
from .words import KEPT

_LINKS, _STALE, _BESIDE = ".links.json", ".stale.json", ".beside.json"  # below STATE/code


class Arrangement:
    """The working folder below ``state``, which is made to fit a bundle."""

    def __init__(self, cache: str, state: str) -> None:
        self._cache, self._state = cache, state
        self._work, self._code = os.path.join(state, "work"), os.path.join(state, "code")
        self._mover = Mover(state, self._work, self._is_ours, self._remember)

    def arrange(self, folder: str) -> bool:
        """Make the working folder fit the code in ``folder`` ("" for no code).

        Return whether a file of the app's own takes the place of a module of the bundle. Raise ``OSError`` if a file
        operation fails.
        """
        held = bundles.lock(self._code, fcntl.LOCK_EX)
        try:
            record = (bundles.record_of(folder) if folder else None) or bundles.Record({}, [])
            renamed.keep(self._work, self._names(_LINKS), self._target, self._before(folder))
            self._empty_first_version(folder, record)
            for name in bundles.folders_of(self._code):
                if name != os.path.basename(folder):
                    self._empty(os.path.join(self._code, name))
            own = self._link_all(folder, record)
            self._write(OWN, own)
            self._show_beside(folder, record)
            bundles.prune(self._code, os.path.basename(folder), self._empty)
        finally:
            os.close(held)
        if own:
            say(f"{KEPT}{names_text(own)} (in {self._work})")
        return any(name.endswith(".py") for name in own)

    def remove_stale(self) -> None:
        """Remove the links to files that the current bundle does not have, and the folders that this empties.

        Raise ``OSError`` if a file operation fails.
        """
        held = bundles.lock(self._code, fcntl.LOCK_EX)
        try:
            stale = self._names(_STALE)
            for name in stale:
                path = os.path.join(self._work, name)
                if self._is_ours(path, name):
                    os.unlink(path)
            for name in sorted({os.path.dirname(name) for name in stale} - {""}, reverse=True):
                _remove_empty(self._work, name)
            self._write(_LINKS, set(self._names(_LINKS)) - set(stale))
            os.unlink(os.path.join(self._code, _STALE))
        except FileNotFoundError:
            pass  # another start of this revision has already done it
        finally:
            os.close(held)

    def _before(self, folder: str) -> Callable[[str], str]:
        """Return a function that finds a file in the code that ran before ``folder``'s.

        The function looks first in code that is still running, then in the newest. It returns a path, or "".
        """
        names = [name for name in reversed(bundles.folders_of(self._code)) if name != os.path.basename(folder)]
        others = sorted((os.path.join(self._code, name) for name in names), key=lambda path: not bundles.in_use(path))

        def find(name: str) -> str:
            paths = (os.path.join(other, name) for other in others)
            return next((path for path in paths if os.path.isfile(path)), "")

        return find

    def _empty(self, folder: str) -> None:
        self._mover.empty(folder, bundles.record_of(folder), running=bundles.in_use(folder))

    def _remember(self, names: list[str]) -> None:
        """Record the names of the files beside the code that are moved next, so that the record survives a kill."""
        if names:
            self._write(_BESIDE, {*self._names(_BESIDE), *names})

    def _empty_first_version(self, folder: str, record: bundles.Record) -> None:
        """Move what an app wrote under flyted 0.1.0, where the code's folder in the cache was the working folder."""
        old = os.path.join(self._cache, "code")
        for name in bundles.folders_of(old) if os.path.isdir(old) else ():
            path = os.path.join(old, name)
            self._mover.empty_unrecorded(
                path, folder, record, same=name == os.path.basename(folder), running=bundles.in_use(path)
            )
            bundles.remove(path, old, lambda _path: None)
        if os.path.isdir(old) and not bundles.folders_of(old):
            shutil.rmtree(old)
        plain, moved = os.path.join(self._cache, "work"), os.path.join(self._cache, "work.moved")
        nothing = bundles.Record({}, [])
        if os.path.isdir(moved):
            self._mover.empty(moved, nothing, running=False)
            shutil.rmtree(moved)
        if os.path.isdir(plain):
            self._mover.empty(plain, nothing, running=True)  # a program without a bundle holds no lock
            os.rename(plain, moved)

    def _link_all(self, folder: str, record: bundles.Record) -> list[str]:
        """Make the links; return the names at which the app has a file or folder of its own."""
        blocked: set[str] = set()
        for name in record.folders:
            path = os.path.join(self._work, name)
            try:
                if os.path.dirname(name) not in blocked:
                    os.mkdir(path, 0o700)
                    continue
            except FileExistsError:
                if os.path.isdir(path) and not os.path.islink(path):
                    continue
            blocked.add(name)
        own = [n for n in record.files if os.path.dirname(n) in blocked or not self._link(folder, n)]
        byte_code = {
            os.path.join(os.path.dirname(name), bundles.BYTE_CODE) for name in record.files if _is_module(name)
        }
        for name in byte_code:
            if os.path.dirname(name) not in blocked and not os.path.lexists(os.path.join(self._work, name)):
                os.symlink(self._target(name), os.path.join(self._work, name))
        made = set(record.files) | byte_code
        before = set(self._names(_LINKS))
        self._write(_LINKS, before | made)
        self._write(_STALE, before - made)
        return own

    def _link(self, folder: str, name: str) -> bool:
        """Make one link, unless the app has a file or folder of its own there; return whether the link is right."""
        path = os.path.join(self._work, name)
        covered = os.path.join(folder, COVERED, name)
        bundled = covered if os.path.lexists(covered) else os.path.join(folder, name)
        if self._is_own(path, name) and (has_log(path) or not equal(path, bundled)):
            return False
        if bundled == covered:
            os.replace(covered, os.path.join(folder, name))
        elif read_link(bundled) == path:
            return True  # the app's changed copy of the bundle's file was here, and the app has moved it away since
        if not self._is_ours(path, name):
            link(self._target(name), path)
        return True

    def _show_beside(self, folder: str, record: bundles.Record) -> None:
        """Link files that the app once wrote beside its code into ``folder`` again, for programs that look there."""
        known = set(self._names(_BESIDE)) | set(self._mover.moved)
        beside = {name for name in known if self._is_own(os.path.join(self._work, name), name)}
        for name in beside if folder else ():
            path = os.path.join(folder, name)
            if not os.path.lexists(path):
                try:
                    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
                    os.symlink(os.path.join(self._work, name), path)
                except FileExistsError:
                    continue  # the bundle has a file where the folder of this one would be
            elif name in record.files and not _is_module(name) and not os.path.islink(path):
                self._cover(folder, name)
        self._write(_BESIDE, beside)

    def _cover(self, folder: str, name: str) -> None:
        """Replace the bundle's file by a link to the app's own.

        The bundle's file is kept below ``COVERED``, and comes back at a later deploy, once the app's own file is gone.
        """
        path, covered = os.path.join(folder, name), os.path.join(folder, COVERED, name)
        os.makedirs(os.path.dirname(covered), 0o700, exist_ok=True)
        if not os.path.lexists(covered):
            os.link(path, covered)
        link(os.path.join(self._work, name), path)

    def _target(self, name: str) -> str:
        return os.path.join(code_link(self._cache), name)

    def _is_ours(self, path: str, name: str) -> bool:
        return read_link(path) == self._target(name)

    def _is_own(self, path: str, name: str) -> bool:
        return os.path.lexists(path) and not self._is_ours(path, name)

    def _names(self, which: str) -> list[str]:
        try:
            with open(os.path.join(self._code, which), encoding="utf-8") as file:
                return list(json.load(file))
        except (OSError, ValueError):
            return []

    def _write(self, which: str, names: Iterable[str]) -> None:
        path = os.path.join(self._code, which)
        found = sorted(names)
        if found:
            bundles.write_whole(path, found)
        elif os.path.lexists(path):
            os.unlink(path)


def _is_module(name: str) -> bool:
    return name.endswith(".py")


def _remove_empty(top: str, name: str) -> None:
    while name:
        try:
            os.rmdir(os.path.join(top, name))
        except OSError:
            return
        name = os.path.dirname(name)
