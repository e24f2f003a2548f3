"""sd_notify(3) in a few lines."""

from __future__ import annotations

import os
import socket

from . import workdir
from .surroundings import say

_PATIENCE_S = 2.0  # sending waits while the receiver's queue is full; a stop must not


class Notifier:
    """Tells systemd about the start and stop of this process; does nothing outside of a unit."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    def loading(self, what: str) -> None:
        """The app's code is being imported, which may take long."""
        self._send(f"STATUS=loading {what}")

    def ready(self, status: str) -> None:
        """The app answers requests now."""
        kept = workdir.kept(os.environ)
        self._send(f"READY=1\nSTATUS={status}" + (f"; {kept}" if kept else ""))

    def status(self, text: str) -> None:
        """What this process is doing, for people and for flyted."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """The app answers what it has begun, and nothing new."""
        say("told to stop: requests in flight are finished, other work of the app ends")
        self._send("STOPPING=1\nSTATUS=finishing requests")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # "@" begins an abstract address. Losing a message must not take the app down: systemd's own timeouts judge.
        target = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(_PATIENCE_S)
                channel.sendto(state.encode(), target)
        except OSError as error:
            say(f"systemd was not told {state.partition('=')[0]}: {error}, ignoring")
