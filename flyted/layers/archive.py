"""Reads tar archives from strangers: ustar, pax and GNU's long names. What images have no use for is refused by name.

Not ``tarfile``: it reads a header of any size into memory, follows sparse maps, and needs a third of the whole time
for the headers of a layer. Sources: pax(1), tar(5), "Basic Tar Format" of GNU tar's manual, OCI image-spec layer.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .compression import Plain
from .damaged import Damaged, printable

BLOCK = 512
LONGEST_NAME = 4096
"""Bytes of a name: what a path may have in a call (PATH_MAX)."""
_LONGEST_HEADER = 1 << 20
FILE, HARD_LINK, SYMLINK, CHARACTER, DEVICE, FOLDER, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_FILES = (FILE, b"\0", b"7")
_KINDS = (HARD_LINK, SYMLINK, CHARACTER, DEVICE, FOLDER, FIFO)
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK, _SPARSE = b"x", b"g", b"L", b"K", b"S"
_END = bytes(BLOCK)


@dataclass
class Entry:
    """One entry: ``kind`` is one of the constants above, ``parts`` the name's components, ``mtime`` in ns."""

    parts: tuple[bytes, ...]
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes

    @property
    def name(self) -> bytes:
        return b"/".join(self.parts)


def entries(plain: Plain) -> Iterator[Entry]:
    """Yield the entries. The caller reads the ``size`` bytes of a file from ``plain``; padding is read here.

    Raises :class:`Damaged` for what is not a tar archive, names that lead upwards, and sparse files.
    """
    pax: dict[bytes, bytes] = {}
    long: dict[bytes, bytes] = {}
    while not plain.at_end() and (block := plain.take(BLOCK)) != _END:
        _check(block)
        kind, size = block[156:157], _number(block[124:136])
        if kind in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
            data = _header(plain, size)
            if kind == _PAX:
                pax = _records(data)
            elif kind != _PAX_GLOBAL:  # a comment, as of git archive; runtimes ignore it
                long[kind] = data.rstrip(b"\0")
            continue
        entry = _entry(block, kind, pax, long)
        pax, long = {}, {}
        yield entry
        plain.take(-entry.size % BLOCK)


def is_header(block: bytes) -> bool:
    """Report whether the first bytes of a file are the first header of an archive."""
    try:
        _check(block)
    except Damaged:
        return False
    return block != _END


def components(name: bytes) -> tuple[bytes, ...]:
    """Return the components of a name below the image's root; a leading / means that root.

    Raises :class:`Damaged` for a name that leads upwards, is too long, or contains a zero byte.
    """
    if len(name) > LONGEST_NAME or b"\0" in name:
        raise Damaged(f"it has a name that no file can have: {printable(name)}")
    found = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in found:
        raise Damaged(f"it has a name that leads out of its folder: {printable(name)}")
    return found


def _entry(block: bytes, kind: bytes, pax: dict[bytes, bytes], long: dict[bytes, bytes]) -> Entry:
    name = pax.get(b"path") or long.get(_LONG_NAME) or _ustar_name(block)
    if kind == _SPARSE or any(key.startswith(b"GNU.sparse.") for key in pax):
        raise Damaged(f"{printable(name)} is a sparse file, which a layer must not contain")
    if kind in _FILES:
        kind = FOLDER if name.endswith(b"/") else FILE  # before POSIX, only a slash told a folder
    elif kind not in _KINDS:
        raise Damaged(f"{printable(name)} is of an unknown kind, {kind!a}")
    return Entry(
        parts=components(name),
        kind=kind,
        mode=_number(block[100:108]) & 0o7777,
        uid=_decimal(pax, b"uid", block[108:116]),
        gid=_decimal(pax, b"gid", block[116:124]),
        size=_decimal(pax, b"size", block[124:136]) if kind == FILE else 0,  # only files have content
        mtime=_time(pax.get(b"mtime"), block[136:148]),
        link=pax.get(b"linkpath") or long.get(_LONG_LINK) or _text(block[157:257]),
    )


def _check(block: bytes) -> None:
    if sum(block) - sum(block[148:156]) + 8 * 32 != _number(block[148:156]):
        raise Damaged("it is not a tar archive, or is damaged: a checksum is wrong")


def _header(plain: Plain, size: int) -> bytes:
    if size > _LONGEST_HEADER:
        raise Damaged(f"it has a header of {size} bytes")
    return plain.take(size + -size % BLOCK)[:size]


def _records(data: bytes) -> dict[bytes, bytes]:
    """Return pax's records: ``LENGTH KEY=VALUE`` and a newline, where the length counts all of it."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        if space < 0 or not data[at:space].isdigit():
            raise Damaged("it has an unreadable pax header")
        end = at + int(data[at:space])
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space or data[end - 1 : end] != b"\n" or not equals:
            raise Damaged("it has an unreadable pax header")
        found[key] = value
        at = end
    return found


def _ustar_name(block: bytes) -> bytes:
    name = _text(block[0:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else b""  # GNU has other fields there
    return prefix + b"/" + name if prefix else name


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """Return a number of a header: octal, or GNU's base 256. Raises :class:`Damaged` for one below zero."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise Damaged("it has a number below zero in a header")
        return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise Damaged("it is not a tar archive, or is damaged: a number is unreadable")
    return int(digits, 8)


def _decimal(pax: dict[bytes, bytes], key: bytes, field: bytes) -> int:
    value = pax.get(key)
    if value is None:
        return _number(field)
    if not value.isdigit() or len(value) > 19:
        raise Damaged(f"it has an unreadable pax header: {printable(key + b'=' + value)}")
    return int(value)


def _time(value: bytes | None, field: bytes) -> int:
    """Return a time in ns since the epoch, within what every file system can store."""
    if value is None:
        seconds, fraction = (0, b"") if field[0] & 0xC0 == 0xC0 else (_number(field), b"")
    else:
        whole, _, fraction = value.partition(b".")
        if not whole.removeprefix(b"-").isdigit() or (fraction and not fraction.isdigit()) or len(whole) > 19:
            raise Damaged(f"it has an unreadable time: {printable(value)}")
        seconds = int(whole)
    if not 0 <= seconds < 1 << 33:
        return 0
    return seconds * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0")
