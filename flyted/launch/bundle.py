"""The app's code: unpacked once per bundle into the app's own cache folder, where its byte code stays too.

Several replicas may start at once, and the app may be killed at any point: a folder appears complete by ``rename`` or
not at all, and a folder in use is locked, so that nobody prunes it.
"""

from __future__ import annotations

import fcntl
import os
import time

from .refused import EX_CANTCREAT, Refused

_LEFTOVER = (".new-", ".old-")
_LEFTOVER_AGE = 600.0  # seconds; younger ones may be somebody's work between mkdir and lock
_KEPT_BESIDES = 1  # the previous bundle: a failed deploy goes back to it


def enter(bundle: str | None, cache: str) -> str:
    """Unpacks ``bundle`` below ``cache`` unless it is there, makes it the working folder and returns its path.

    Without a bundle the working folder is ``cache/work``. Raises ``Refused`` if it cannot be read or is unsafe.
    """
    if not cache:
        raise Refused("launch: CACHE_DIRECTORY is not set; the unit needs CacheDirectory=")
    try:
        folder = _plain(cache) if bundle is None else _unpacked(bundle, os.path.join(cache, "code"))
        os.chdir(folder)
    except OSError as error:
        raise Refused(f"the app's folder below {cache} cannot be made: {error.strerror}", EX_CANTCREAT) from None
    return folder


def _plain(cache: str) -> str:
    folder = os.path.join(cache, "work")
    os.makedirs(folder, exist_ok=True)
    return folder


def _unpacked(bundle: str, code: str) -> str:
    name = stem(bundle)
    if not name or name.startswith("."):
        raise Refused(f"launch: {bundle!a} is no name of a code bundle")
    os.makedirs(code, exist_ok=True)
    final = os.path.join(code, name)
    while _hold(final) is None:
        _make(bundle, final, code)
    os.utime(final)
    prune(code, name)
    return final


def stem(bundle: str) -> str:
    """The folder's name: the file's without ``.tar.gz``; that is the bundle's SHA-256."""
    name = os.path.basename(bundle)
    return name[: -len(".tar.gz")] if name.endswith(".tar.gz") else name.partition(".")[0]


def _make(bundle: str, final: str, code: str) -> None:
    import shutil
    import tempfile

    from .unpack import unpack

    fresh = tempfile.mkdtemp(prefix=_LEFTOVER[0], dir=code)
    lock = _lock(fresh, fcntl.LOCK_SH)
    try:
        unpack(bundle, fresh)
        os.rename(fresh, final)
    except FileExistsError:  # another starter was faster; its folder is as good
        shutil.rmtree(fresh, ignore_errors=True)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        if os.path.isdir(final):  # ENOTEMPTY: the same, as some file systems say it
            return
        raise
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def _hold(folder: str) -> int | None:
    """Locks a folder for as long as this process lives; ``None`` if it is not (or no longer) there."""
    try:
        lock = _lock(folder, fcntl.LOCK_SH)
    except FileNotFoundError:
        return None
    try:
        if os.path.samestat(os.fstat(lock), os.stat(folder)):
            return lock
    except FileNotFoundError:
        pass  # pruned between the two calls
    os.close(lock)
    return None


def prune(code: str, current: str) -> None:
    """Deletes bundles that nobody runs, but for ``current`` and the newest other; also what a crash left behind."""
    with os.scandir(code) as entries:
        found = [(entry.stat(follow_symlinks=False).st_mtime, entry.name) for entry in entries if entry.is_dir()]
    old = time.time() - _LEFTOVER_AGE
    leftovers = [name for age, name in found if name.startswith(_LEFTOVER) and age < old]
    bundles = sorted((age, name) for age, name in found if name != current and not name.startswith(_LEFTOVER))
    for name in leftovers + [name for _, name in bundles[: max(0, len(bundles) - _KEPT_BESIDES)]]:
        _remove(os.path.join(code, name), code)


def _remove(folder: str, code: str) -> None:
    import shutil
    import tempfile

    try:
        lock = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # in use, or gone
        return
    try:
        doomed = tempfile.mkdtemp(prefix=_LEFTOVER[1], dir=code)
        os.rename(folder, doomed)  # under its name it is complete or absent, never half deleted
        shutil.rmtree(doomed, ignore_errors=True)
    except OSError:
        pass  # another starter prunes as well, or the next one will
    finally:
        os.close(lock)


def _lock(folder: str, how: int) -> int:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, how)
    except BaseException:
        os.close(handle)
        raise
    return handle
