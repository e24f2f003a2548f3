"""Tells systemd about the state of a unit: sd_notify(3)."""

from __future__ import annotations

import _socket as socket
import os


def tell(text: str) -> None:
    """Send assignments such as ``READY=1``, one a line, to systemd; do nothing outside a unit.

    Only the first call of a process sends anything: it takes ``NOTIFY_SOCKET`` out of the environment.
    """
    where = os.environ.pop("NOTIFY_SOCKET", "")
    if not where:
        return
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    channel.sendto(text.encode(), "\0" + where[1:] if where[0] == "@" else where)
    channel.close()
