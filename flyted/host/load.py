"""Listens at a Unix socket to which HAProxy connects when an app has more requests than its replicas are for.

The connection itself is the message (``plan/ingress/pools.py``): nothing is read from it. There is no work until
HAProxy connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from flyted.contract.errors import HostFailure

_WAITING = 8


class Load:
    """The socket at ``path``. Its group is that of its folder, so HAProxy may connect; other users may not."""

    def __init__(self, path: Path) -> None:
        """Listen. Raises :class:`HostFailure` if that is not possible."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            path.unlink(missing_ok=True)
            self._socket.bind(os.fspath(path))
            path.chmod(0o660)
            self._socket.listen(_WAITING)
        except OSError as error:
            self._socket.close()
            raise HostFailure(f"cannot listen at {path}: {error.strerror}") from error

    def start(self, more: Callable[[], None]) -> None:
        """Call ``more`` after each connection from now on, once for those that have come together."""
        asyncio.get_running_loop().add_reader(self._socket, self._read, more)

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(RuntimeError):  # no loop runs any more
            asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self, more: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):  # none is left, or who connected is gone
            for _ in range(_WAITING):
                self._socket.accept()[0].close()
        more()
