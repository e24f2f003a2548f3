"""Unpacks the app's code once per bundle into ``STATE/code/SHA256``, where its byte code is kept too.

Several replicas may start at once, and the app may be killed at any point. So a folder appears complete, by
``rename``, or not at all, and a folder in use is locked, so that no other start prunes it. A record beside the folder
lists what was unpacked, so that what the app wrote there can be recognised (``own_files``).
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable

from .refused import Refused

BYTE_CODE = "__pycache__"
_LEFTOVER = (".new-", ".old-")
_LEFTOVER_AGE = 600.0  # seconds; a younger folder may be another start's, between mkdir and lock
_RECORD = re.compile(r"([0-9a-f]{64})\.json(?:\.[0-9]+)?")  # also one that write_whole has not renamed
_KEPT_BESIDES = 1  # the previous bundle, to which a failed deploy returns


class Record:
    """The record of an unpacked bundle, with relative names.

    ``files``: name → (size in bytes, time of last change in ns). ``folders``: names.
    """

    def __init__(self, files: dict[str, tuple[int, int]], folders: list[str]) -> None:
        self.files, self.folders = files, folders


def unpacked(bundle: str, code: str) -> str:
    """Unpack ``bundle`` below ``code`` unless that is done; return its folder, locked until this process ends.

    Raise ``Refused`` if the bundle has no valid name, cannot be read or is unsafe, ``OSError`` if it cannot be
    written.
    """
    name = stem(bundle)
    if not name or name.startswith("."):
        raise Refused(f"launch: {bundle!a} is not the name of a code bundle")
    final = os.path.join(code, name)
    while hold(final) is None:
        _make(bundle, final, code)
    return final


def stem(bundle: str) -> str:
    """Return the name of a bundle's folder: the file's name without ``.tar.gz``, which is the bundle's SHA-256."""
    name = os.path.basename(bundle)
    return name[: -len(".tar.gz")] if name.endswith(".tar.gz") else name.partition(".")[0]


def record_of(folder: str) -> Record | None:
    """Return the record of what was unpacked to ``folder``; ``None`` if it is missing or damaged."""
    import json

    try:
        with open(f"{folder}.json", encoding="utf-8") as file:
            found = json.load(file)
        return Record({name: (size, changed) for name, size, changed in found["files"]}, found["folders"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_whole(path: str, value: object) -> None:
    """Write ``value`` to ``path`` as JSON, complete or not at all. Raise ``OSError`` if it cannot be written."""
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
        record = {"files": [(name, *is_) for name, is_ in files.items()], "folders": folders}
        _publish(fresh, final, record, code)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # it is not there any more if it has the bundle's name now
        os.close(held)


def _publish(fresh: str, final: str, record: object, code: str) -> None:
    """Give an unpacked folder the bundle's name, with its record, unless another start was faster.

    Under the lock of ``code``, since the record has the times of this folder's files, not of another start's.
    """
    held = lock(code, fcntl.LOCK_EX)
    try:
        if not os.path.isdir(final):
            write_whole(f"{final}.json", record)
            os.rename(fresh, final)
    finally:
        os.close(held)


def hold(folder: str) -> int | None:
    """Lock a folder until this process ends, and return the descriptor.

    Return ``None`` if there is no such folder, or no longer. Raise ``OSError`` if it cannot be locked otherwise.
    """
    try:
        held = lock(folder, fcntl.LOCK_SH)
    except FileNotFoundError:
        return None
    try:
        if os.path.samestat(os.fstat(held), os.stat(folder)):
            return held
    except FileNotFoundError:
        pass  # the folder was pruned between the two calls
    os.close(held)
    return None


def in_use(folder: str) -> bool:
    """Report whether a process runs the code of this folder. A folder that cannot be locked counts as in use."""
    try:
        held = lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    os.close(held)
    return False


def folders_of(code: str) -> list[str]:
    """Return the names of the bundles that are unpacked below ``code``, oldest first. Raise ``OSError``."""
    with os.scandir(code) as entries:
        found = [(entry.stat(follow_symlinks=False).st_mtime, entry.name) for entry in entries if entry.is_dir()]
    return [name for _, name in sorted(found) if not name.startswith(_LEFTOVER)]


def prune(code: str, current: str, empty: Callable[[str], None]) -> None:
    """Delete the bundles that no process runs, except ``current`` and the newest other, and what a crash left behind.

    The caller holds the lock of ``code``. ``empty(folder)`` moves what the app wrote out of a folder before the folder
    is deleted. If ``empty`` raises ``OSError``, the folder stays. Raise ``OSError`` if ``code`` cannot be read.
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
    _remove_records(code)


def _remove_records(code: str) -> None:
    """Delete the records whose folder is not there: a crash came between the two."""
    for name in os.listdir(code):
        found = _RECORD.fullmatch(name)
        if found and not os.path.isdir(os.path.join(code, found[1])):
            os.unlink(os.path.join(code, name))


def remove(folder: str, code: str, empty: Callable[[str], None]) -> None:
    """Delete a folder of code unless a process runs it, after ``empty(folder)``, as in :func:`prune`."""
    import shutil
    import tempfile

    try:
        held = lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # in use, or gone
        return
    try:
        empty(folder)
        doomed = tempfile.mkdtemp(prefix=_LEFTOVER[1], dir=code)
        os.rename(folder, doomed)  # a folder with a bundle's name is complete, never half deleted
        shutil.rmtree(doomed, ignore_errors=True)
        os.unlink(f"{folder}.json")
    except OSError:
        pass  # another start prunes at the same time, or the next one will
    finally:
        os.close(held)


def lock(folder: str, how: int) -> int:
    """Lock a folder by flock(2), and return the descriptor; the lock is held until that is closed.

    Raise ``OSError`` if that is not possible.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, how)
    except BaseException:
        os.close(handle)
        raise
    return handle
