"""Wraps the listening socket that systemd passes as fd 3 (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from .words import BACKLOG

_FIRST = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET")


class Listener(socket.socket):
    """The listening socket, which keeps its backlog and notes when an event loop begins to accept from it."""

    accepting = False

    def listen(self, _backlog: int = BACKLOG, /) -> None:
        """Listen with a backlog of ``BACKLOG``, whatever the caller asks for, and set ``accepting``.

        asyncio calls this again on the socket that systemd holds too: a smaller backlog would still apply at the next
        cold start.
        """
        self.accepting = True
        super().listen(BACKLOG)


def listener(environ: MutableMapping[str, str]) -> Listener | None:
    """Return the inherited socket, set to close on exec.

    Return ``None`` if this process was given no socket, or one that does not listen.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()) or environ.get("LISTEN_FDS", "0") == "0":
        return None
    try:
        sock = Listener(fileno=_FIRST)
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        return None
    if not listening:
        sock.detach()
        return None
    os.set_inheritable(_FIRST, False)  # noqa: FBT003
    sock.setblocking(False)  # noqa: FBT003
    return sock


def forget(environ: MutableMapping[str, str]) -> None:
    """Remove the variables of the protocol between systemd and this process, so that the app does not see them."""
    for name in _VARIABLES:
        environ.pop(name, None)
