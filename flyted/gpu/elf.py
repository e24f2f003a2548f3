"""Reads of a shared library what ldconfig(8) reads: its processor and its soname (elf(5)). 64 bits, little-endian.

A CDI spec lists libraries by their file's name, with the driver's version in it; programs open them by their soname.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

MACHINES = {62: "x86_64", 183: "aarch64"}
"""The number of a processor in the header → its name of uname(1)."""
_LOAD, _DYNAMIC = 1, 2
_NULL, _STRTAB, _SONAME = 0, 5, 14
_MOST = 1 << 16  # bytes of headers or of the dynamic section
_LONGEST = 256


@dataclass(frozen=True)
class Library:
    """A library. ``soname``: "" if it has none; ``machine``: "" for a processor that is not known."""

    machine: str
    soname: str


def library(path: Path) -> Library:
    """Return what a library says of itself. Raises ``OSError``, and ``ValueError`` for another kind of file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        head = os.pread(descriptor, 64, 0)
        if head[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a library of 64 bits")
        machine, table = struct.unpack_from("<H", head, 18)[0], struct.unpack_from("<Q", head, 32)[0]
        size, count = struct.unpack_from("<HH", head, 54)
        if size < 56:
            raise ValueError("not a library of 64 bits")
        raw = _read(descriptor, table, size * count)
        parts = [struct.unpack_from("<IIQQQQ", raw, size * number) for number in range(count)]
        return Library(MACHINES.get(machine, ""), _soname(descriptor, parts))
    except struct.error as error:
        raise ValueError("a damaged library") from error
    finally:
        os.close(descriptor)


def _soname(descriptor: int, parts: list[tuple[int, ...]]) -> str:
    """Return the soname. ``parts``: type, flags, offset, virtual and physical address, and size of each segment."""
    dynamic = next((part for part in parts if part[0] == _DYNAMIC), None)
    if dynamic is None:
        raise ValueError("a program or a static library")
    raw = _read(descriptor, dynamic[2], dynamic[5])
    found: dict[int, int] = {}
    for tag, value in struct.iter_unpack("<qQ", raw[: len(raw) // 16 * 16]):
        if tag == _NULL:
            break
        found[tag] = value
    if _SONAME not in found or _STRTAB not in found:
        return ""
    offset = next(
        (p[2] + found[_STRTAB] - p[3] for p in parts if p[0] == _LOAD and 0 <= found[_STRTAB] - p[3] < p[5]), 0
    )
    text = os.pread(descriptor, _LONGEST, offset + found[_SONAME]).partition(b"\0")[0]
    return text.decode() if text.isascii() and text.decode().isprintable() else ""


def _read(descriptor: int, offset: int, size: int) -> bytes:
    if size > _MOST:
        raise ValueError("a damaged library")
    found = os.pread(descriptor, size, offset)
    if len(found) < size:
        raise ValueError("a damaged library")
    return found
