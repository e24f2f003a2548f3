"""Fetches the files and folders among an app's parameters, and shows each where its file says (``mount``).

Follows ``sync_parameters`` in flyte/_bin/serve.py, with three differences. What is fetched stays in the app's cache,
named by its address and by what the storage tells of it (sizes, tags, times), so that a wake fetches only what has
changed. A path of this machine is used where it is, and not copied. And a file or folder appears below ``mount`` as
links, in real folders, since programs that list a folder do not follow links to folders.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

from .bundle import hold, lock
from .links import link, read_link
from .refused import Refused
from .surroundings import first
from .words import EX_CANTCREAT, EX_TEMPFAIL, FETCHED, FETCHING

FILE, DIRECTORY = "file", "directory"
KINDS = (FILE, DIRECTORY)
FOLDER = "parameters"  # below the app's cache
_MIB, _GIB = 1 << 20, 1 << 30
_LEFT_FREE = 256 << 20
"""Bytes of the disk that a fetch leaves to others."""
_HOMES = ("/home/", "/root/", "/run/user/")
_NEW = ".new-"

Told = dict[str, Any]
"""What a storage tells of each file, by its path: how large it is, and whether it is still the same."""


def paths(
    items: list[dict[str, Any]], environ: MutableMapping[str, str], say: Callable[[str], None]
) -> dict[str, str]:
    """Return name → path of each file and folder that is to be downloaded; ``say`` is told of each that is fetched.

    Raise ``Refused`` for one that is missing, is neither file nor folder, does not fit on the disk, cannot be fetched,
    or cannot be shown at its ``mount``.
    """
    wanted = [item for item in items if item.get("type") in KINDS and item.get("download")]
    cache = os.path.join(first(environ, "CACHE_DIRECTORY"), FOLDER)
    found = {item["name"]: _path(item, cache, say) for item in wanted}
    _prune(cache, {path for path in found.values() if path.startswith(cache)})
    for item in wanted:
        if item.get("dest"):
            found[item["name"]] = _shown(item, found[item["name"]])
    return found


def is_remote(value: str) -> bool:
    """Report whether a value is an address of a storage, not a path of this machine."""
    return "://" in value and not value.startswith("file://")


def _path(item: dict[str, Any], cache: str, say: Callable[[str], None]) -> str:
    value = item["value"]
    if not is_remote(value):
        return _local(item, os.path.abspath(value.removeprefix("file://")))
    try:
        os.makedirs(cache, 0o700, exist_ok=True)
        return _remote(item, cache, say)
    except Refused:
        raise
    except OSError as error:
        if error.filename is not None and str(error.filename).startswith(cache):
            raise Refused(f"{_named(item)} cannot be stored: {error.strerror}", EX_CANTCREAT) from None
        raise _unreachable(item, error) from None
    except Exception as error:  # noqa: BLE001 - each storage's client has errors of its own
        raise _unreachable(item, error) from None


def _named(item: dict[str, Any]) -> str:
    return f"parameter {item['name']!a} ({item['value']!a})"


def _unreachable(item: dict[str, Any], error: Exception) -> Refused:
    if isinstance(error, FileNotFoundError):
        return Refused(f"{_named(item)}: there is no such {item['type']}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = lines[0] if lines else type(error).__name__
    return Refused(f"{_named(item)} cannot be fetched: {why[:300]}", EX_TEMPFAIL)


def _local(item: dict[str, Any], path: str) -> str:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        why = "apps cannot see home folders" if path.startswith(_HOMES) else error.strerror
        raise Refused(f"{_named(item)} cannot be used: {why}") from None
    fits = stat.S_ISREG(mode) if item["type"] == FILE else stat.S_ISDIR(mode)
    if not fits:
        is_ = "a file" if stat.S_ISREG(mode) else "a folder" if stat.S_ISDIR(mode) else "neither a file nor a folder"
        raise Refused(f"{_named(item)} cannot be used: it is {is_}, and the parameter's type is {item['type']}")
    if not os.access(path, os.R_OK):
        raise Refused(f"{_named(item)} cannot be used: the app may not read it")
    return path


def _remote(item: dict[str, Any], cache: str, say: Callable[[str], None]) -> str:
    """Return where a file or folder of a storage is in the cache, fetched unless it is there as the storage has it.

    Its folder is locked until this process ends, so that no other start prunes it.
    """
    import asyncio

    told = asyncio.run(_told(item))
    if not told:
        raise Refused(f"{_named(item)}: there is no such {item['type']}, or it is empty")
    text = json.dumps([item["type"], item["value"], told], sort_keys=True, default=str)
    final = os.path.join(cache, hashlib.sha256(text.encode()).hexdigest()[:32])
    while hold(final) is None:
        size = _size(told)
        _check_room(item, size, cache)
        say(f"{FETCHING}{_named(item)}, {FETCHED.format(size / _MIB)}")
        fresh = tempfile.mkdtemp(prefix=_NEW, dir=cache)
        held = lock(fresh, fcntl.LOCK_SH)
        try:
            asyncio.run(_fetched(item, os.path.join(fresh, _base(item))))
            _publish(fresh, final)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            os.close(held)
    return os.path.join(final, _base(item))


def _publish(fresh: str, final: str) -> None:
    try:
        os.rename(fresh, final)
    except OSError:
        if not os.path.isdir(final):  # else another start was faster
            raise


def _base(item: dict[str, Any]) -> str:
    name = os.path.basename(str(item["value"]).partition("?")[0].rstrip("/"))
    return name if name not in ("", ".", "..") else str(item["type"])


async def _told(item: dict[str, Any]) -> Told:
    """Return what the storage tells of a file, or of all files of a folder; nothing if there are none."""
    import inspect

    from flyte import storage  # the app's own SDK

    system: Any = storage.get_underlying_filesystem(path=item["value"])
    one = item["type"] == FILE
    names = ("_info", "info") if one else ("_find", "find")
    ask = next(getattr(system, name) for name in names if hasattr(system, name))
    answer = ask(item["value"]) if one else ask(item["value"], detail=True)
    found = await answer if inspect.isawaitable(answer) else answer
    if one:
        return {item["value"]: found} if found.get("type", FILE) == FILE else {}
    return {path: each for path, each in found.items() if each.get("type", FILE) == FILE}


async def _fetched(item: dict[str, Any], target: str) -> None:
    from flyte import storage

    await storage.get(item["value"], target, recursive=item["type"] == DIRECTORY)


def _size(told: Told) -> int:
    return sum(each.get("size") or 0 for each in told.values())


def _check_room(item: dict[str, Any], size: int, cache: str) -> None:
    free = shutil.disk_usage(cache).free - _LEFT_FREE
    if size > free:
        raise Refused(
            f"{_named(item)} has {size / _GIB:.1f} GiB, and {cache} has room for {max(free, 0) / _GIB:.1f} GiB",
            EX_CANTCREAT,
        )


def _prune(cache: str, used: set[str]) -> None:
    """Delete what no process uses and this start does not either: files of earlier revisions, and of killed starts."""
    if not os.path.isdir(cache):
        return
    kept = {os.path.relpath(path, cache).partition(os.sep)[0] for path in used}
    for name in set(os.listdir(cache)) - kept:
        path = os.path.join(cache, name)
        try:
            held = lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # in use, or gone
            continue
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)


def _shown(item: dict[str, Any], path: str) -> str:
    """Show a file or folder at its ``mount``; return where it is seen.

    As in the SDK, a file's ``mount`` is a folder if it ends with a slash or is one, else the file's own path.
    """
    mount = os.path.abspath(str(item["dest"]))
    if item["type"] == FILE and (item["dest"].endswith("/") or (os.path.isdir(mount) and not os.path.islink(mount))):
        mount = os.path.join(mount, _base(item))
    try:
        os.makedirs(os.path.dirname(mount), exist_ok=True)
        if item["type"] == FILE:
            _put(path, mount)
        else:
            for folder, name in _files_below(path):
                os.makedirs(os.path.join(mount, folder), exist_ok=True)
                _put(os.path.join(path, folder, name), os.path.join(mount, folder, name))
            os.makedirs(mount, exist_ok=True)
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        raise Refused(f"{_named(item)} cannot be shown at mount={item['dest']!a}: {why}", EX_CANTCREAT) from None
    return mount


def _files_below(top: str) -> Iterable[tuple[str, str]]:
    for folder, _, names in os.walk(top):
        for name in names:
            yield os.path.relpath(folder, top), name


def _put(path: str, place: str) -> None:
    """Make a link, unless the app has a file of its own there."""
    if os.path.lexists(place) and not os.path.islink(place):
        raise OSError(17, "the app has a file of its own there", place)
    if read_link(place) != path:
        link(path, place)
