"""What a unit says to systemd: sd_notify(3)."""

from __future__ import annotations

import _socket as socket
import os


def tell(text: str) -> None:
    """Sends assignments such as ``READY=1``, one a line. Does nothing outside a unit."""
    where = os.environ.pop("NOTIFY_SOCKET", "")
    if not where:
        return
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    channel.sendto(text.encode(), "\0" + where[1:] if where[0] == "@" else where)
    channel.close()
