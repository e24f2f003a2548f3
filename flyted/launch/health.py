"""Whether a server that listens already can answer: some listen long before their model is loaded.

Asked on the program's own port, in its own network. In doubt it can: what answers other than "not yet" (503) serves.
"""

from __future__ import annotations

import contextlib
import socket

_WAIT_S = 1.0  # one that is busy with its model may leave a connection alone for long


def answers(target: str, path: str) -> bool:
    """Asks for ``path`` at ``target`` (``address:port``, no brackets). False at 503, and when nothing answers."""
    address, _, port = target.rpartition(":")
    try:
        with socket.create_connection((address, int(port)), _WAIT_S) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            said = _first_line(connection)
    except OSError:
        return False
    return said.split(b" ")[1:2] != [b"503"]


def _first_line(connection: socket.socket) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionError):  # TLS of its own, say: it speaks, and not our language
        while b"\n" not in said and len(said) < 4096 and (more := connection.recv(4096)):
            said += more
    return said
