"""Answers on the helper's socket: one line in, JSON lines out. Only root can connect; systemd starts the helper then.

``list``: the inventory in one line, then the connection ends. ``watch``: the connection stays, and gets a line per XID
error. The process ends when it has not been needed for a while, so a machine without GPU apps does not run it.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from typing import Any

from flyted.base import sd

from .driver import Driver
from .events import start
from .inventory import inventory

IDLE_S = 20.0
READ_S = 5.0


class Server:
    """The server: one thread for all connections, and one that waits for errors of GPUs."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._watchers: list[socket.socket] = []
        self._read_end, self._write_end = os.pipe()
        self._watching = False
        self._driver = Driver()

    def run(self) -> None:
        """Serve until there is no watcher and no connection for :data:`IDLE_S` seconds."""
        while True:
            quiet = None if self._watchers else IDLE_S
            sources: list[socket.socket | int] = [self._listener, self._read_end, *self._watchers]
            ready, _, _ = select.select(sources, [], [], quiet)
            if not ready and not self._watchers:
                return
            for source in ready:
                if source is self._listener:
                    self._accept()
                elif isinstance(source, int):
                    self._tell(os.read(source, 65536))
                else:
                    self._watchers.remove(source)  # a watcher never sends anything: it has left
                    source.close()

    def _accept(self) -> None:
        conn, _ = self._listener.accept()
        conn.settimeout(READ_S)
        try:
            asked = conn.makefile("rb").readline(64).strip()
            if asked == b"watch":
                self._watch(conn)
                return
            listed = asked == b"list"
            answer: Any = {**inventory(), "files": self._driver.files()} if listed else {"reason": "unknown request"}
            conn.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            pass
        conn.close()

    def _watch(self, conn: socket.socket) -> None:
        self._watchers.append(conn)
        if not self._watching:
            self._watching = True
            start(lambda uuid, xid: _write(self._write_end, {"uuid": uuid, "xid": xid}))

    def _tell(self, lines: bytes) -> None:
        for conn in list(self._watchers):
            try:
                conn.sendall(lines)
            except OSError:
                self._watchers.remove(conn)
                conn.close()


def _write(descriptor: int, event: dict[str, Any]) -> None:
    os.write(descriptor, json.dumps(event).encode() + b"\n")  # atomic: shorter than PIPE_BUF (pipe(7))


def main() -> int:
    """Run the helper, and return 0 when it is no longer needed, 2 if systemd did not start it."""
    passed = sd.listeners()
    if passed is None or len(passed) != 1:
        sys.stderr.write("flyted-gpu is started by flyted-gpu.socket\n")
        return 2
    Server(socket.socket(fileno=passed[0][1])).run()
    return 0
