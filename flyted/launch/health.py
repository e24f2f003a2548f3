"""Checks whether a server that listens can answer: some listen long before their model is loaded.

The server is asked on the program's own port, in its own network, or on the app's socket.
"""

from __future__ import annotations

import socket
import time

from .deadline import receive
from .refused import Refused

WAIT_S = 1.0  # a server that is busy with its model may not answer a connection for long
_SILENCE_S = 5.0  # a server that has not answered an HTTP request for so long speaks another protocol
NOT_YET = 503
_NO_SUCH_PATH = 404
_ERRORS = 500
_TLS = b"\x15\x03"  # an alert (RFC 8446 5.1)
FRAME_HEAD = 9  # bytes (RFC 9113 4.1)


class Ready:
    """The test whether a program may get requests.

    ``path``: a path of the app (``--ready-path``), which has to answer with a status below 500 other than 404: Ray
    Serve has no paths before its application is loaded. ``health``: a path of an engine; any answer but 503 ("not
    yet") means ready. Without either, any HTTP answer means ready; so does no answer for ``_SILENCE_S`` seconds.
    """

    def __init__(self, path: str = "", health: str = "") -> None:
        self.path, self._health = path, health
        self._since = 0.0

    @property
    def asks(self) -> str:
        """The path that is requested, "" if any answer will do."""
        return self.path or self._health

    def at(self, target: str) -> bool:
        """Report whether the program at ``target`` is ready. Raise ``Refused`` if it answers in another protocol.

        ``target``: ``address:port``, no brackets; or the path of a Unix socket.
        """
        said = _answer(target, self.asks or "/", "GET" if self.asks else "HEAD")
        if self._health and not self.path:
            return said is not None and _status(said) != NOT_YET
        if said and not said.startswith(b"HTTP/"):
            raise Refused(f"what listens on port {target.rpartition(':')[2]} {_other_protocol(said)}")
        if self.path:
            return said is not None and 0 < _status(said) < _ERRORS and _status(said) != _NO_SUCH_PATH
        self._since = self._since or time.monotonic()
        return said is not None or time.monotonic() > self._since + _SILENCE_S


def status(target: str, path: str, method: str = "GET") -> int | None:
    """Return the status with which ``target`` answers; 0 if that is not HTTP, ``None`` if there is no answer."""
    said = _answer(target, path, method)
    return None if said is None else _status(said)


def _status(said: bytes) -> int:
    word = said.split(b" ")[1:2]
    return int(word[0]) if said[:5] == b"HTTP/" and word and word[0].isdigit() else 0


def _other_protocol(said: bytes) -> str:
    """Say what a server speaks that has answered a request of HTTP/1.0 with ``said``, and what to do about it.

    The ingress speaks only HTTP to apps: each visitor would get 502. What was said is not shown: it may be a secret.
    """
    if said[:2] == _TLS:
        return "speaks TLS, which flyted's ingress does for it: start it without TLS"
    if is_settings(said):
        return 'speaks only HTTP/2 (gRPC does): declare that on its port: flyte.app.Port(8080, name="h2c")'
    return "does not speak HTTP, and an app can only be reached by HTTP"


def is_settings(said: bytes) -> bool:
    """Report whether an answer begins with a SETTINGS frame.

    A server of HTTP/2 always sends this frame first (RFC 9113 3.4); no other protocol begins with these bytes.
    """
    return len(said) >= FRAME_HEAD and said[3] == 4 and said[4:FRAME_HEAD] == bytes(5)


def _answer(target: str, path: str, method: str) -> bytes | None:
    """Return the beginning of what ``target`` answers, with its first line; ``None`` if there is no answer."""
    try:
        with connected(target) as connection:
            connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            return _first_line(connection)
    except OSError:
        return None


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
    except ConnectionError:  # it may have said something before
        pass
    return said
