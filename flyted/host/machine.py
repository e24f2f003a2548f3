"""Reports facts about this machine: its processor, C library and Python, files, and kernel settings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

_PYTHON = Path("/usr/bin/python3")
_SWITCHES = Path("/proc/sys")
_PROFILES = Path("/sys/kernel/security/apparmor/profiles")


def architecture() -> str:
    """Return the processor's architecture as uname(1) names it: "x86_64"."""
    return os.uname().machine


def kernel() -> tuple[int, int]:
    """Return the kernel's version, without its patch: (6, 12)."""
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return int(major), int(minor)


def libc() -> str:
    """Return the C library: "glibc 2.41"."""
    return os.confstr("CS_GNU_LIBC_VERSION") or ""


def system_python() -> str:
    """Return the version of the system's Python, without its patch: "3.13"."""
    return _PYTHON.resolve().name.removeprefix("python")


def has(pattern: str) -> bool:
    """Report whether there is a file of the system at an absolute path, in which ``*`` stands for one part's text."""
    return any(Path("/").glob(pattern.removeprefix("/")))


def is_free(path: str) -> bool:
    """Report whether there is nothing at a path, or an empty folder on which nothing is mounted."""
    try:
        if not Path(path).is_symlink() and not Path(path).is_mount():
            return not any(Path(path).iterdir())
    except FileNotFoundError:
        return True
    except OSError:  # a file, or a folder that flyted may not read
        pass
    return False


def has_overlay() -> bool:
    """Report whether the kernel has the file system overlay, built in, loaded or as a module."""
    known = Path("/proc/filesystems").read_text().split()
    return "overlay" in known or has(f"/lib/modules/{os.uname().release}/kernel/fs/overlayfs/overlay.ko*")


def subordinate_ids() -> str:
    """Return the text of subuid(5) and subgid(5)."""
    files = (Path("/etc/subuid"), Path("/etc/subgid"))
    return "".join(file.read_text(errors="replace") for file in files if file.exists())


def switches(names: Iterable[str]) -> dict[str, str]:
    """Return the values of switches of the kernel, by their paths below /proc/sys, as far as the kernel has them."""
    return {name: text for name in names if (text := _switch(name)) is not None}


def apparmor_profiles() -> frozenset[str]:
    """Return the names of the profiles that AppArmor has; none where the kernel has no AppArmor."""
    try:
        lines = _PROFILES.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(line.rpartition(" (")[0] for line in lines)


def _switch(name: str) -> str | None:
    try:
        return (_SWITCHES / name).read_text().strip()
    except OSError:
        return None
