"""Receives from a socket until a deadline that holds for all parts together, however slowly the other side sends."""

from __future__ import annotations

import socket
import time


def left(end: float) -> float:
    """Return the seconds until ``end``, a time of ``time.monotonic``. Raise ``TimeoutError`` if none are left."""
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def receive(connection: socket.socket, size: int, end: float) -> bytes:
    """Return the next part, at most ``size`` bytes; b"" at the end of the stream.

    Raise ``TimeoutError`` if there is none until ``end``, ``OSError`` if the connection fails.
    """
    connection.settimeout(left(end))
    return connection.recv(size)
