"""Makes archives of layers, well-formed and not, and shows what a folder holds."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flyted.layers.unpack import Unpacked, unpack
from flyted.layers.users import Owner

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
END = bytes(1024)
ME = Owner(os.getuid(), os.getgid(), "/", ())


def entry(name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "", **more: Any) -> bytes:
    """The bytes of one entry, as Python's own tarfile writes it."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    info.uid, info.gid, info.mtime = os.getuid(), os.getgid(), 1_000_000_000
    for key, value in more.items():
        setattr(info, key, value)
    head = info.tobuf(tarfile.PAX_FORMAT if info.pax_headers else tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return head + data + bytes(-len(data) % 512)


def folder(name: str, **more: Any) -> bytes:
    return entry(name, kind=tarfile.DIRTYPE, **more)


def symlink(name: str, to: str) -> bytes:
    return entry(name, kind=tarfile.SYMTYPE, link=to)


def hard_link(name: str, to: str) -> bytes:
    return entry(name, kind=tarfile.LNKTYPE, link=to)


def raw(
    name: bytes, kind: bytes = b"0", size: bytes = b"0" * 11 + b"\0", body: bytes = b"", link: bytes = b""
) -> bytes:
    """One entry whose header is written by hand; the checksum is right."""
    head = bytearray(512)
    head[0 : len(name)] = name
    head[100:108], head[108:116], head[116:124] = b"0000644\0", b"%07o\0" % os.getuid(), b"%07o\0" % os.getgid()
    head[124:136], head[136:148], head[148:156] = size, b"0" * 11 + b"\0", b" " * 8
    head[156:157], head[157 : 157 + len(link)], head[257:265] = kind, link, b"ustar\00000"
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + body + bytes(-len(body) % 512)


def pax(**records: bytes) -> bytes:
    """A pax header for the entry after it."""
    body = b""
    for key, value in records.items():
        rest = b" " + key.replace("__", ".").encode() + b"=" + value + b"\n"
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length = len(str(length)) + len(rest)
        body += str(length).encode() + rest
    return raw(b"pax", b"x", b"%011o\0" % len(body), body)


def unpacked(root: Path, parts: Iterable[bytes], **limits: int) -> Unpacked:
    """Unpack an archive of these entries over ``root``."""
    blob = io.BytesIO(gzip.compress(b"".join(parts) + END, 1))
    return unpack(blob, GZIP, str(root), **limits)


def tree(root: Path) -> dict[str, str]:
    """What is below ``root``: name → a file's text, a link's target or the kind."""
    found = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[str(path.relative_to(root))] = f"-> {path.readlink()}"
        elif stat.S_ISREG(mode):
            found[str(path.relative_to(root))] = path.read_text()
        else:
            found[str(path.relative_to(root))] = "/" if stat.S_ISDIR(mode) else "|"
    return found
