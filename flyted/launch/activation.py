"""The listening socket that systemd passes as fd 3 (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

_FIRST = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET")
BACKLOG = 4096  # what the .socket unit asks for


class Listener(socket.socket):
    """Remembers when an event loop begins to accept from it, and keeps the backlog."""

    accepting = False

    def listen(self, _backlog: int = BACKLOG, /) -> None:
        """asyncio calls this again on the shared socket; a smaller number would stay for the next cold start."""
        self.accepting = True
        super().listen(BACKLOG)


def listener(environ: MutableMapping[str, str]) -> Listener | None:
    """The inherited socket, closed on exec; ``None`` if this process was given none, or not a listening one."""
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
    """Takes the variables that systemd and this process speak through out of what the app's code sees."""
    for name in _VARIABLES:
        environ.pop(name, None)
