"""Watches some files of one folder for changes, inotify(7): also files that are replaced by rename, as most are."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

log = logging.getLogger(__name__)

_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")  # wd, mask, cookie, and the length of the name behind it
_READ = 65536


class FileWatch:
    """A watch on a folder. ``hears`` is false if the kernel provides none: then the caller has to poll."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._names = frozenset(name.encode() for name in names)
        self._fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            self._fd = _watching(folder)
        except OSError as error:
            log.warning("changes to files of %s are not noticed immediately: %s", folder, error.strerror)

    @property
    def hears(self) -> bool:
        """True if the kernel reports changes."""
        return self._fd >= 0

    def start(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` after each change from now on, and for those since the watch was made."""
        if self.hears:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._fd, self._read, changed)

    def close(self) -> None:
        """Close the watch."""
        if self.hears:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self, changed: Callable[[], None]) -> None:
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:
            return
        if _concerns(data, self._names):
            changed()


def _watching(folder: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    mask = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
    if libc.inotify_add_watch(fd, os.fsencode(folder), mask) < 0:
        number = ctypes.get_errno()
        os.close(fd)
        raise OSError(number, os.strerror(number))
    return fd


def _concerns(data: bytes, names: frozenset[bytes]) -> bool:
    """Report whether one of the events is about a file of these names, or events were lost."""
    at = 0
    while at < len(data):
        _wd, mask, _cookie, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        if mask & _OVERFLOW or data[at : at + length].rstrip(b"\0") in names:
            return True
        at += length
    return False
