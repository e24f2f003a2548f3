"""Whether a server that listens already can answer: some listen long before their model is loaded.

Asked on the program's own port, in its own network, or on the app's socket.
"""

from __future__ import annotations

import socket
import time

_WAIT_S = 1.0  # one that is busy with its model may leave a connection alone for long
_SILENCE_S = 5.0  # one that says nothing so long to a question of HTTP speaks something else
NOT_YET = 503
_NO_SUCH_PATH = 404
_ERRORS = 500


class Ready:
    """When a program may get requests.

    ``path``: of the app (``--ready-path``), which has to answer below 500 and not 404: Ray Serve has no paths before
    its application is there. ``health``: of an engine, which serves unless it says "not yet" (503): in doubt it can.
    Without either any answer will do, and no answer will do after a while.
    """

    def __init__(self, path: str = "", health: str = "") -> None:
        self.path, self._health = path, health
        self._since = 0.0

    @property
    def asks(self) -> str:
        """The path that says it, "" if any answer does."""
        return self.path or self._health

    def at(self, target: str) -> bool:
        """Asks at ``target``: ``address:port``, no brackets; or the path of a Unix socket."""
        said = status(target, self.asks or "/", "GET" if self.asks else "HEAD")
        if self.path:
            return said is not None and 0 < said < _ERRORS and said != _NO_SUCH_PATH
        if self._health:
            return said is not None and said != NOT_YET
        self._since = self._since or time.monotonic()
        return said is not None or time.monotonic() > self._since + _SILENCE_S


def status(target: str, path: str, method: str = "GET") -> int | None:
    """The status that ``target`` answers with; 0 if it says something else, ``None`` if it says nothing."""
    try:
        with connected(target) as connection:
            connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            said = _first_line(connection)
    except OSError:
        return None
    word = said.split(b" ")[1:2]
    return int(word[0]) if said[:5] == b"HTTP/" and word and word[0].isdigit() else 0


def connected(target: str) -> socket.socket:
    """A connection to ``target``, with a bound on each wait. Raises ``OSError``."""
    if not target.startswith("/"):
        address, _, port = target.rpartition(":")
        return socket.create_connection((address, int(port)), _WAIT_S)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_WAIT_S)
    try:
        connection.connect(target)
    except OSError:
        connection.close()
        raise
    return connection


def _first_line(connection: socket.socket) -> bytes:
    said = b""
    try:
        while b"\n" not in said and len(said) < 4096 and (more := connection.recv(4096)):
            said += more
    except ConnectionError:  # TLS of its own, say: it speaks, and not our language
        pass
    return said
