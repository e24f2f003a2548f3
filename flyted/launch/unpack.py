"""Unpacks an untrusted tar.gz into an empty folder: plain files and folders only, below it only, and within limits.

It has checks of its own, because ``tarfile``'s ``filter=`` is missing in Debian 12's Python. Every file is created
with ``O_EXCL``, below folders that were made here, so that no entry can lead a later one elsewhere.
"""

from __future__ import annotations

import os
import tarfile
import zlib

from .refused import Refused

MOST_BYTES = 1 << 30
MOST_ENTRIES = 100_000
DEEPEST = 200
"""Nested folders; no program needs more, and the kernel would not accept such a path as a whole."""
_CHUNK = 1 << 20
_FEW = 32  # up to so many files are synced one by one: syncfs(2) also waits for other processes' data


def unpack(archive: str, folder: str) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Write the contents of ``archive`` below ``folder``, synced to disk; return the files and folders.

    That is a dict of each file's relative name → (size in bytes, time of last change in ns), and the folders' names.

    Raise ``Refused`` for an unreadable archive, an unsafe or repeated name, a link, a device, a size or number above
    ``MOST_BYTES`` or ``MOST_ENTRIES``, or more than ``DEEPEST`` nested folders; ``OSError`` if it cannot be written.
    """
    label = f"code bundle {os.path.basename(archive)}"
    try:
        source = open(archive, "rb")  # noqa: SIM115 - closed below; its errors are not those of writing
    except OSError as error:
        raise Refused(f"{label} cannot be read: {error.strerror}") from None
    with source:
        try:
            found = _read(source, folder, label)
        except (tarfile.TarError, zlib.error, EOFError, ValueError, OverflowError) as error:
            raise Refused(f"{label} is damaged: {error}") from None
        except OSError as error:
            if error.errno is None:  # gzip.BadGzipFile
                raise Refused(f"{label} is damaged: {error}") from None
            raise
    if len(found[0]) > _FEW:
        _sync(folder)
    return found


def _read(source: object, folder: str, label: str) -> tuple[dict[str, tuple[int, int]], list[str]]:
    room, folders = MOST_BYTES, {folder}
    files: dict[str, tuple[int, int]] = {}
    with tarfile.open(fileobj=source, mode="r:gz") as tar:  # type: ignore[call-overload]
        for count, entry in enumerate(tar, 1):
            if count > MOST_ENTRIES:
                raise Refused(f"{label} has more than {MOST_ENTRIES} entries")
            parts = _parts(entry.name, label)
            path = os.path.join(folder, *parts)
            if entry.isdir():
                _make_folder(path, folder, folders, label)
            elif entry.isreg() and parts:
                room -= entry.size
                if room < 0 or entry.size < 0:
                    raise Refused(f"{label} holds more than {MOST_BYTES >> 20} MiB")
                _make_folder(os.path.dirname(path), folder, folders, label)
                files["/".join(parts)] = _make_file(tar, entry, path, label, sync=len(files) < _FEW)
            else:
                raise Refused(f"{label}: {entry.name!a} is neither a file nor a folder")
    return files, sorted(os.path.relpath(path, folder) for path in folders if path != folder)


def _parts(name: str, label: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise Refused(f"{label}: {name!a} leads out of the app's folder")
    if len(parts) > DEEPEST:
        raise Refused(f"{label}: folders are more than {DEEPEST} deep")
    return parts


def _make_folder(path: str, top: str, folders: set[str], label: str) -> None:
    if path in folders:
        return
    _make_folder(os.path.dirname(path), top, folders, label)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        raise Refused(f"{label}: {os.path.relpath(path, top)!a} is both a file and a folder") from None
    folders.add(path)


def _make_file(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: str, label: str, *, sync: bool) -> tuple[int, int]:
    mode = 0o700 if entry.mode & 0o100 else 0o600
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise Refused(f"{label}: {entry.name!a} occurs twice") from None
    content = tar.extractfile(entry)
    with open(handle, "wb") as file:
        while content is not None and (chunk := content.read(_CHUNK)):
            file.write(chunk)
        file.flush()
        if sync:
            os.fsync(file.fileno())
        now = os.fstat(file.fileno())
    return now.st_size, now.st_mtime_ns


def _sync(folder: str) -> None:
    """Sync the file system of ``folder`` by syncfs(2): one wait for the disk instead of one per file."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            import ctypes

            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syncfs(handle):
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error))
        except (ImportError, AttributeError):  # a Python without libffi, or a C library without syncfs
            os.sync()
    finally:
        os.close(handle)
