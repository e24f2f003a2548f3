"""Checks whether a server that listens can answer: some listen long before their model is loaded.

The server is asked on the program's own port, in its own network, or on the app's socket.
"""

from __future__ import annotations

import socket
import time

from .deadline import receive

WAIT_S = 1.0  # a server that is busy with its model may not answer a connection for long
_SILENCE_S = 5.0  # a server that has not answered an HTTP request for so long speaks another protocol
NOT_YET = 503
_NO_SUCH_PATH = 404
_ERRORS = 500


class Ready:
    """The test whether a program may get requests.

    ``path``: a path of the app (``--ready-path``), which has to answer with a status below 500 other than 404: Ray
    Serve has no paths before its application is loaded. ``health``: a path of an engine; any answer but 503 ("not
    yet") means ready. Without either, any answer means ready, and after ``_SILENCE_S`` seconds no answer does too.
    """

    def __init__(self, path: str = "", health: str = "") -> None:
        self.path, self._health = path, health
        self._since = 0.0

    @property
    def asks(self) -> str:
        """The path that is requested, "" if any answer will do."""
        return self.path or self._health

    def at(self, target: str) -> bool:
        """Report whether the program at ``target`` is ready.

        ``target``: ``address:port``, no brackets; or the path of a Unix socket.
        """
        said = status(target, self.asks or "/", "GET" if self.asks else "HEAD")
        if self.path:
            return said is not None and 0 < said < _ERRORS and said != _NO_SUCH_PATH
        if self._health:
            return said is not None and said != NOT_YET
        self._since = self._since or time.monotonic()
        return said is not None or time.monotonic() > self._since + _SILENCE_S


def status(target: str, path: str, method: str = "GET") -> int | None:
    """Return the status with which ``target`` answers; 0 if that is not HTTP, ``None`` if there is no answer."""
    try:
        with connected(target) as connection:
            connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            said = _first_line(connection)
    except OSError:
        return None
    word = said.split(b" ")[1:2]
    return int(word[0]) if said[:5] == b"HTTP/" and word and word[0].isdigit() else 0


def connected(target: str) -> socket.socket:
    """Return a connection to ``target``, with a timeout of ``WAIT_S`` seconds. Raise ``OSError`` if there is none."""
    if not target.startswith("/"):
        address, _, port = target.rpartition(":")
        return socket.create_connection((address, int(port)), WAIT_S)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(WAIT_S)
    try:
        connection.connect(target)
    except OSError:
        connection.close()
        raise
    return connection


def _first_line(connection: socket.socket) -> bytes:
    said, end = b"", time.monotonic() + WAIT_S
    try:
        while b"\n" not in said and len(said) < 4096 and (more := receive(connection, 4096, end)):
            said += more
    except ConnectionError:  # a server with TLS, say: it reacts, but does not speak HTTP
        pass
    return said
