"""Listening sockets from systemd, the process at the other end of a connection, and sd_notify(3)."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import MutableMapping
from dataclasses import dataclass

from flyted.contract.errors import HostFailure

_FIRST_FD = 3
_PEERCRED = struct.Struct("3i")
_CREDENTIAL_PEER = re.compile(rb"\0[0-9a-f]{1,16}/unit/([A-Za-z0-9:_.@-]{1,255})/([A-Za-z0-9_.-]{1,255})")


@dataclass(frozen=True)
class Peer:
    """The process that connected, as the kernel reports it."""

    pid: int
    uid: int
    gid: int


def inherited(environ: MutableMapping[str, str] = os.environ) -> dict[str, socket.socket]:
    """Return the sockets that systemd listens on for flyted, by ``FileDescriptorName=`` (sd_listen_fds_with_names(3)).

    Takes the variables out of ``environ``, so that no child believes them to be its own. Raises :class:`HostFailure`
    when the process was not started by systemd, or a name is missing or occurs twice.
    """
    pid, count, names = (environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count.isascii() or not count.isdigit():
        raise HostFailure("flyted was not started by systemd: it has no sockets", hint="systemctl start flyted")
    words = names.split(":") if names else []
    if len(words) != int(count) or len(set(words)) != len(words):
        raise HostFailure(
            "systemd's sockets for flyted have no names of their own", hint="systemctl cat flyted.socket"
        )
    found = {}
    for number, name in enumerate(words, _FIRST_FD):
        os.set_inheritable(number, False)  # noqa: FBT003
        found[name] = socket.socket(fileno=number)
        found[name].setblocking(False)  # noqa: FBT003
    return found


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


def notify(state: str, environ: MutableMapping[str, str] = os.environ) -> bool:
    """Send systemd a state such as ``READY=1`` (sd_notify(3)), and report whether somebody was there to listen."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError:
            return False
    return True
