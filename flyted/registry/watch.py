"""Ends a connection that receives too little: a silent one, and one that receives a byte now and then."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

LEAST_BYTES = 1 << 16


class Watch:
    """The watch over a connection: :data:`LEAST_BYTES`, or all that is left, have to arrive in each ``seconds``."""

    def __init__(self, connected: socket.socket, seconds: float) -> None:
        self.stalled = False
        self._socket = connected.dup()  # of its own, whatever TLS makes of the other
        self._seconds = seconds
        self._arm()

    def received(self, size: int) -> None:
        """Count received bytes."""
        self._got += size
        if self._got >= LEAST_BYTES and time.monotonic() - self._since > self._seconds / 4:
            self._timer.cancel()
            self._arm()

    def stop(self) -> None:
        """End the watch."""
        self._timer.cancel()
        self._timer.join()
        self._socket.close()

    def _arm(self) -> None:
        self._got, self._since = 0, time.monotonic()
        self._timer = threading.Timer(self._seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def _end(self) -> None:
        self.stalled = True
        with contextlib.suppress(OSError):  # it has ended by itself
            self._socket.shutdown(socket.SHUT_RDWR)
