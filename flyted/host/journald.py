"""Writes entries with fields of their own to the journal, by journald's native protocol.

systemd: docs/JOURNAL_NATIVE_PROTOCOL.md.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence

log = logging.getLogger(__name__)

SOCKET = "/run/systemd/journal/socket"
_SEND_S = 1.0
_OURS = ("SYSLOG_IDENTIFIER", "flyted")


def write(fields: Sequence[tuple[str, str]], path: str = SOCKET) -> None:
    """Write one entry.

    If the journal does not take it, its message is logged as a plain line: the change that it reports is not affected.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(_SEND_S)
            sock.sendto(encoded([_OURS, *fields]), path)
    except OSError:
        log.info("%s", dict(fields).get("MESSAGE", ""))


def encoded(fields: Sequence[tuple[str, str]]) -> bytes:
    """Return the entry as it travels: ``NAME=value``, or the name, the length and the value if that has line ends."""
    return b"".join(_field(name.encode(), value.encode("utf-8", "replace")) for name, value in fields)


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name + b"=" + value + b"\n"
