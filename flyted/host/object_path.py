"""Encodes names of units in D-Bus object paths, and decodes them (sd_bus_path_encode(3)): ``_2e`` is the byte 0x2e."""

from __future__ import annotations

import re

_UNITS = "/org/freedesktop/systemd1/unit/"
_PATH = re.compile(rf"{_UNITS}((?:[A-Za-z0-9]|_[0-9a-f]{{2}})+)")
_ESCAPED = re.compile(rb"_(..)")


def unit_path(name: str) -> bytes:
    """Return the object path of a unit."""
    escaped = "".join(
        c if c.isascii() and (c.isalpha() or (c.isdigit() and i)) else "".join(f"_{b:02x}" for b in c.encode())
        for i, c in enumerate(name)
    )
    return (_UNITS + escaped).encode()


def unit_of(path: str) -> str:
    """Return the unit of an object path; "" for any other path."""
    found = _PATH.fullmatch(path)
    if found is None:
        return ""
    return _ESCAPED.sub(lambda byte: bytes.fromhex(byte[1].decode()), found[1].encode()).decode("utf-8", "replace")
