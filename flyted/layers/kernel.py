"""Wraps system calls that Python lacks; each raises ``OSError`` with what was tried."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

from .failed import Failed
from .words import EX_UNAVAILABLE

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000  # sched.h: CLONE_…
RDONLY, NOSUID, NODEV, NOEXEC, BIND, REC, SLAVE = 1, 2, 4, 8, 4096, 16384, 1 << 19  # sys/mount.h: MS_…
_DETACH = 2  # MNT_DETACH
_PDEATHSIG, _BOUND_DROP, _NO_NEW_PRIVILEGES, _SECCOMP = 1, 24, 38, 22  # sys/prctl.h
_FILTER = 2  # SECCOMP_MODE_FILTER
_CAPABILITY_V3 = 0x20080522
_LAST_CAPABILITY = 63
_RECURSIVE, _ATTR_RDONLY = 0x8000, 1  # AT_RECURSIVE, MOUNT_ATTR_RDONLY
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR = 442  # on every machine

_libc = ctypes.CDLL(None, use_errno=True)


def machine() -> str:
    """Return the name of this machine's processor. Raises :class:`Failed` for one whose system calls are not known."""
    name = platform.machine()
    if name not in _PIVOT_ROOT:
        raise Failed(EX_UNAVAILABLE, f"images with layers cannot be built on {name}: only on x86_64 and aarch64")
    return name


def unshare(flags: int) -> None:
    """Move this process (with ``NEWPID``: its next child) to new namespaces."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount a file system, or change a mount (mount(2))."""
    words = [word.encode(errors="surrogateescape") or None for word in (source, target, kind, data)]
    _check(_libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]), f"mount {kind} on {target}")


def bind(source: str, target: str, *, writable: bool = False) -> None:
    """Bind a file or folder to another place. It keeps its mount options, so that nothing more is permitted there."""
    mount(source, target, "", BIND | REC)
    if not writable:
        seal(target)


def seal(target: str) -> None:
    """Make a mount, and those below it, read-only."""
    attributes = struct.pack("QQQQ", _ATTR_RDONLY, 0, 0, 0)
    path = target.encode(errors="surrogateescape")
    done = _libc.syscall(_MOUNT_SETATTR, -100, path, _RECURSIVE, attributes, len(attributes))
    _check(done, f"make {target} read-only")


def umount(target: str) -> None:
    """Detach a mount, and those below it."""
    _check(_libc.umount2(target.encode(), _DETACH), f"unmount {target}")


def pivot() -> None:
    """Make the working folder the root; the old root lies on top of it: pivot_root(2), "pivot_root(".", ".")"."""
    _check(_libc.syscall(_PIVOT_ROOT[machine()], b".", b"."), "pivot_root")


def die_with_parent() -> None:
    """Make the kernel kill this process (SIGKILL) when its parent ends."""
    _check(_libc.prctl(_PDEATHSIG, 9, 0, 0, 0), "prctl")


def no_new_privileges() -> None:
    """Prevent executed programs from gaining rights (no_new_privs)."""
    _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")


def keep_capabilities(kept: frozenset[int]) -> None:
    """Give up all capabilities but these, for this process and whatever it executes."""
    for number in range(_LAST_CAPABILITY + 1):
        if number not in kept:
            _libc.prctl(_BOUND_DROP, number, 0, 0, 0)  # those that this kernel does not know are refused
    mask = sum(1 << number for number in kept)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header, sets = struct.pack("Ii", _CAPABILITY_V3, 0), struct.pack("6I", low, low, 0, high, high, 0)
    _check(_libc.capset(header, sets), "capset")


def set_filter(program: bytes) -> None:
    """Install a filter of system calls (seccomp(2)) for this process and its children."""
    buffer = ctypes.create_string_buffer(program)
    head = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(_SECCOMP, _FILTER, ctypes.c_char_p(head), 0, 0), "seccomp")


def sync_file_system(folder: str) -> None:
    """Write everything of the file system that has this folder to the disk: syncfs(2)."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _check(_libc.syncfs(opened), f"write {folder} to the disk")
    finally:
        os.close(opened)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
