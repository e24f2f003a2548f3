"""Tells of changes to files of a folder, inotify(7): also of files that are replaced by rename, as most are."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Collection
from pathlib import Path

_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")  # wd, mask, cookie, and the length of the name behind it
_READ = 65536


def watching(folder: Path) -> int:
    """Return a descriptor that is readable after changes in ``folder``; OSError if the kernel provides none."""
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


def changed(descriptor: int, names: Collection[bytes]) -> bool:
    """Read what is there to read; report whether a file of these names has changed, or events were lost."""
    try:
        data = os.read(descriptor, _READ)
    except BlockingIOError:
        return False
    at = 0
    while at < len(data):
        _wd, mask, _cookie, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        if mask & _OVERFLOW or data[at : at + length].rstrip(b"\0") in names:
            return True
        at += length
    return False
