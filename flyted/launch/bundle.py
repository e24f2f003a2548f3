"""The app's code: unpacked once per bundle into ``STATE/code/SHA256``, where its byte code stays too.

Several replicas may start at once, and the app may be killed at any point: a folder appears complete by ``rename`` or
not at all, and a folder in use is locked, so that nobody prunes it. What was unpacked is on record beside the folder,
so that what the app wrote into it can be told apart (``own_files``).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable

from .refused import Refused

BYTE_CODE = "__pycache__"
_LEFTOVER = (".new-", ".old-")
_LEFTOVER_AGE = 600.0  # seconds; younger ones may be somebody's work between mkdir and lock
_KEPT_BESIDES = 1  # the previous bundle: a failed deploy goes back to it


class Record:
    """What was unpacked: ``files``, each with its size and its time of change (ns), and ``folders``; all relative."""

    def __init__(self, files: dict[str, tuple[int, int]], folders: list[str]) -> None:
        self.files, self.folders = files, folders


def unpacked(bundle: str, code: str) -> str:
    """Unpacks ``bundle`` below ``code`` unless it is there; returns its folder, locked for as long as we live.

    Raises ``Refused`` if it cannot be read or is unsafe, ``OSError`` if the disk does not take it.
    """
    name = stem(bundle)
    if not name or name.startswith("."):
        raise Refused(f"launch: {bundle!a} is no name of a code bundle")
    final = os.path.join(code, name)
    while hold(final) is None:
        _make(bundle, final, code)
    return final


def stem(bundle: str) -> str:
    """The folder's name: the file's without ``.tar.gz``; that is the bundle's SHA-256."""
    name = os.path.basename(bundle)
    return name[: -len(".tar.gz")] if name.endswith(".tar.gz") else name.partition(".")[0]


def record_of(folder: str) -> Record | None:
    """What was unpacked to ``folder``; ``None`` where the record is lost."""
    import json

    try:
        with open(f"{folder}.json", encoding="utf-8") as file:
            found = json.load(file)
        return Record({name: (size, changed) for name, size, changed in found["files"]}, found["folders"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_whole(path: str, value: object) -> None:
    """Writes ``value`` as JSON, complete or not at all."""
    import json

    fresh = f"{path}.{os.getpid()}"
    with open(fresh, "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(fresh, path)


def _make(bundle: str, final: str, code: str) -> None:
    import shutil
    import tempfile

    from .unpack import unpack

    fresh = tempfile.mkdtemp(prefix=_LEFTOVER[0], dir=code)
    held = lock(fresh, fcntl.LOCK_SH)
    try:
        files, folders = unpack(bundle, fresh)
        for folder in {os.path.dirname(name) for name in files if name.endswith(".py")}:
            os.makedirs(os.path.join(fresh, folder, BYTE_CODE), 0o700, exist_ok=True)
        write_whole(f"{final}.json", {"files": [(name, *is_) for name, is_ in files.items()], "folders": folders})
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
        os.close(held)


def hold(folder: str) -> int | None:
    """Locks a folder for as long as this process lives; ``None`` if it is not (or no longer) there."""
    try:
        held = lock(folder, fcntl.LOCK_SH)
    except FileNotFoundError:
        return None
    try:
        if os.path.samestat(os.fstat(held), os.stat(folder)):
            return held
    except FileNotFoundError:
        pass  # pruned between the two calls
    os.close(held)
    return None


def in_use(folder: str) -> bool:
    """Whether a process runs the code of this folder."""
    try:
        held = lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    os.close(held)
    return False


def folders_of(code: str) -> list[str]:
    """The names of the bundles that are unpacked below ``code``, oldest first."""
    with os.scandir(code) as entries:
        found = [(entry.stat(follow_symlinks=False).st_mtime, entry.name) for entry in entries if entry.is_dir()]
    return [name for _, name in sorted(found) if not name.startswith(_LEFTOVER)]


def prune(code: str, current: str, empty: Callable[[str], None]) -> None:
    """Deletes bundles that nobody runs, but for ``current`` and the newest other; also what a crash left behind.

    ``empty(folder)`` takes what the app wrote out of a folder, before that is deleted. If it fails, the folder stays.
    """
    os.utime(os.path.join(code, current))
    others = [name for name in folders_of(code) if name != current]
    for name in others[: max(0, len(others) - _KEPT_BESIDES)]:
        remove(os.path.join(code, name), code, empty)
    old = time.time() - _LEFTOVER_AGE
    with os.scandir(code) as entries:
        for entry in [each for each in entries if each.name.startswith(_LEFTOVER) and each.is_dir()]:
            if entry.stat(follow_symlinks=False).st_mtime < old:
                remove(entry.path, code, lambda _folder: None)


def remove(folder: str, code: str, empty: Callable[[str], None]) -> None:
    """Deletes a folder of code that nobody runs, after ``empty``, as in :func:`prune`."""
    import shutil
    import tempfile

    try:
        held = lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # in use, or gone
        return
    try:
        empty(folder)
        doomed = tempfile.mkdtemp(prefix=_LEFTOVER[1], dir=code)
        os.rename(folder, doomed)  # under its name it is complete or absent, never half deleted
        shutil.rmtree(doomed, ignore_errors=True)
        os.unlink(f"{folder}.json")
    except OSError:
        pass  # another starter prunes as well, or the next one will
    finally:
        os.close(held)


def lock(folder: str, how: int) -> int:
    """Locks a folder, flock(2); ``OSError`` where that is not possible. It is held until the descriptor is closed."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, how)
    except BaseException:
        os.close(handle)
        raise
    return handle
