"""Inherits listening sockets from systemd, and identifies the process at the other end of a connection."""

from __future__ import annotations

import re
import socket
import struct
from dataclasses import dataclass

from flyted.base import sd
from flyted.contract.errors import HostFailure

_PEERCRED = struct.Struct("3i")
_CREDENTIAL_PEER = re.compile(rb"\0[0-9a-f]{1,16}/unit/([A-Za-z0-9:_.@-]{1,255})/([A-Za-z0-9_.-]{1,255})")


@dataclass(frozen=True)
class Peer:
    """The process that connected, as the kernel reports it."""

    pid: int
    uid: int
    gid: int


def inherited() -> dict[str, socket.socket]:
    """Return the sockets that systemd listens on for flyted, by ``FileDescriptorName=``.

    Raises :class:`HostFailure` when the process was not started by systemd, or a name occurs twice.
    """
    passed = sd.listeners()
    if passed is None:
        raise HostFailure("flyted was not started by systemd: it has no sockets", hint="systemctl start flyted")
    found = dict(passed)
    if len(found) != len(passed):
        raise HostFailure(
            "systemd's sockets for flyted have no names of their own", hint="systemctl cat flyted.socket"
        )
    listening = {name: socket.socket(fileno=descriptor) for name, descriptor in found.items()}
    for each in listening.values():
        each.setblocking(False)  # noqa: FBT003
    return listening


def peer(conn: socket.socket) -> Peer:
    """Return the process that connected: ``SO_PEERCRED`` of unix(7), with the *primary* group only."""
    return Peer(*_PEERCRED.unpack(conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)))


def credential_peer(address: object) -> tuple[str, str] | None:
    """Return (unit, credential id) from the address from which systemd asks; ``None`` for any other address.

    systemd.exec(5), ``LoadCredential=``: an abstract name of a random number, ``/unit/``, the unit, and the id.
    Anybody who can connect can take such a name, so it counts from uid 0 only.
    """
    found = _CREDENTIAL_PEER.fullmatch(address) if isinstance(address, bytes) else None
    return (found[1].decode(), found[2].decode()) if found else None
