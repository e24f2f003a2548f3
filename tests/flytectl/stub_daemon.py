"""A Unix socket that answers one connection with given bytes: the stub_daemon at which a daemon can misbehave.

Only for what a real daemon does not do on demand (hang up, another version, nonsense); the real one is tested in the
booted machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import termios
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flyted.contract import wire

Answer = Callable[[dict[str, Any]], bytes]
"""The answer to a request, for a test in which they differ."""


class StubDaemon:
    """Listens at once; each connection's request is read and kept, then answered, then closed.

    ``hold``: not before the client has left, and ``asked`` is set when it has read all. ``last`` is said then, to one
    who has left and still listens.
    """

    def __init__(
        self, path: Path, answers: Iterable[bytes | Answer], *, hold: bool = False, last: bytes = b""
    ) -> None:
        self.requests: list[dict[str, Any]] = []
        self.bulk = b""
        self.asked = threading.Event()
        self._answers = tuple(answers)
        self._hold = hold
        self._last = last
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            with conn:
                self._serve(conn)

    def _serve(self, conn: socket.socket) -> None:
        size = wire.length(conn.recv(wire.HEAD.size, socket.MSG_WAITALL), wire.REQUEST_LIMIT)
        request = wire.decode(conn.recv(size, socket.MSG_WAITALL))
        self.requests.append(request)
        wanted = request["args"].get("bulk", 0)
        while len(self.bulk) < wanted:
            self.bulk += conn.recv(wanted - len(self.bulk))
        conn.sendall(b"".join(each if isinstance(each, bytes) else each(request) for each in self._answers))
        while self._hold and _unread(conn):
            time.sleep(0.01)
        self.asked.set()
        if self._hold:
            conn.recv(1)  # until the client leaves
            with contextlib.suppress(OSError):
                conn.sendall(self._last)

    def close(self) -> None:
        """Stops listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def _unread(conn: socket.socket) -> bool:
    """Whether the client has not read all yet (unix(7), SIOCOUTQ)."""
    return any(fcntl.ioctl(conn, termios.TIOCOUTQ, bytes(4)))


def result(**data: Any) -> bytes:
    """The frame of a result."""
    return wire.encode({"result": data})


def event(**data: Any) -> bytes:
    """The frame of an event."""
    return wire.encode({"event": data})


def error(code: str, message: str, hint: str = "") -> bytes:
    """The frame of an error."""
    return wire.encode({"error": {"code": code, "message": message, "hint": hint}})
