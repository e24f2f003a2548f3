"""Answers the clients that wait at the app's socket when the app cannot start now: 503, with ``Retry-After``.

Their requests are in the socket's queue. If they stayed there, they would start the app again and again, and be cut
off when its units are removed.
"""

from __future__ import annotations

import contextlib
import socket
import time

from .deadline import left, receive

RETRY_S = 15
TIMEOUT_S = 3.0  # for all clients; by then the daemon knows of the failure, and handles later ones
_CLIENT_S = 0.5  # for each, so that one that sends slowly leaves time for those behind it
_HEAD_LIMIT = 64 * 1024
_BODY = b"503: this app cannot serve now; its operator can see why in its log\n"


def turn_away(listener: socket.socket) -> int:
    """Answer all connections that wait; return their number. No client can make this raise."""
    end, count = time.monotonic() + TIMEOUT_S, 0
    listener.setblocking(False)  # noqa: FBT003
    while time.monotonic() < end:
        try:
            conn, _ = listener.accept()
        except OSError:
            return count  # no connection is left
        count += 1
        with conn, contextlib.suppress(OSError):
            _answer(conn, min(end, time.monotonic() + _CLIENT_S))
    return count


def _answer(conn: socket.socket, end: float) -> None:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD_LIMIT:
        part = receive(conn, 65536, end)
        if not part:
            return
        head += part
    conn.settimeout(left(end))
    conn.sendall(
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"
        b"Retry-After: %d\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (RETRY_S, len(_BODY), _BODY)
    )
    conn.shutdown(socket.SHUT_WR)
    while receive(conn, 65536, end):  # an unread body would make the kernel reset the connection, and lose the answer
        pass
