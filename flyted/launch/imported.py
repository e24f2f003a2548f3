"""Puts imported files in the place of what an app has, all of them or none, and finishes that after a crash.

STATE/.flyted-import/new       what an import has unpacked, complete once there is a mark
STATE/.flyted-import/old       what it replaces
STATE/.flyted-import/replace   the mark: what the app has is being moved to ``old``
STATE/.flyted-import/place     the mark after that: what is new is being moved to STATE

The first mark is the moment at which the import has happened: whoever finds it later, be it the next start of the app,
completes the move. Before it, an import that was cut off leaves nothing but a folder to be deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator

from .refused import Refused
from .surroundings import say
from .words import CODE, EX_TEMPFAIL, IMPORTED

_REPLACE, _PLACE = "replace", "place"


def settle(state: str) -> None:
    """Complete or undo an import that was cut off. Called at each start of the app.

    Raise ``Refused`` while an import runs, and ``OSError`` if the folders cannot be changed.
    """
    top = os.path.join(state, IMPORTED)
    if not os.path.lexists(top):
        return
    with held(top):
        if _marked(top):
            say("completing the import of its data, which was cut off")
            move(state)
        clear(state)


@contextlib.contextmanager
def held(top: str) -> Iterator[None]:
    """Keep others from the import's folder. Raise ``Refused`` if somebody has it."""
    handle = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Refused("its data is being imported", EX_TEMPFAIL) from None
    finally:
        os.close(handle)


def commit(state: str) -> None:
    """Put what is in ``new`` in the place of what the app has.

    Raise ``OSError`` if something cannot be moved, such as a folder on which something is mounted; all is as before.
    """
    top = os.path.join(state, IMPORTED)
    os.mkdir(os.path.join(top, "old"), 0o700)
    _sync(top)
    _mark(top, _REPLACE)
    try:
        _move_old(state)
    except OSError:
        for name in os.listdir(os.path.join(top, "old")):
            os.rename(os.path.join(top, "old", name), os.path.join(state, name))
        os.unlink(os.path.join(top, _REPLACE))
        raise
    move(state)


def move(state: str) -> None:
    """Move what the app has away, and what is new to its place; what has been moved already is not there any more."""
    top = os.path.join(state, IMPORTED)
    if not os.path.lexists(os.path.join(top, _PLACE)):
        _move_old(state)
        os.rename(os.path.join(top, _REPLACE), os.path.join(top, _PLACE))
        _sync(top)
    new = os.path.join(top, "new")
    for name in os.listdir(new) if os.path.isdir(new) else ():
        os.rename(os.path.join(new, name), os.path.join(state, name))
    _sync(state)


def clear(state: str) -> None:
    """Delete the import's folder, with what it replaced. What cannot be deleted is tried again at the next start."""
    top = os.path.join(state, IMPORTED)
    new = os.path.join(top, "new")
    if _marked(top) and os.path.isdir(new) and os.listdir(new):
        return  # the move is not complete
    for name in ("new", "old"):
        path = os.path.join(top, name)
        with contextlib.suppress(OSError):
            _open_up(path)
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):  # the marks last
        for name in (_REPLACE, _PLACE):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(top, name))
        os.rmdir(top)


def _open_up(path: str) -> None:
    """Give the app's user the right to all folders below ``path``, without which he cannot delete what is in them."""
    pending = [path]
    while pending:
        folder = pending.pop()
        os.chmod(folder, 0o700)
        with os.scandir(folder) as entries:
            pending += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _move_old(state: str) -> None:
    old = os.path.join(state, IMPORTED, "old")
    for name in os.listdir(state):
        if name not in (CODE, IMPORTED):
            os.rename(os.path.join(state, name), os.path.join(old, name))
    _sync(state)


def _marked(top: str) -> bool:
    return any(os.path.lexists(os.path.join(top, name)) for name in (_REPLACE, _PLACE))


def _mark(top: str, name: str) -> None:
    os.close(os.open(os.path.join(top, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    _sync(top)


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
