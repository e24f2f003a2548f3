"""Sends the unit's state to systemd, by sd_notify(3)'s protocol."""

from __future__ import annotations

import os
import socket

from . import workdir
from .surroundings import say
from .words import LOADING

_TIMEOUT_S = 2.0  # a send waits while the receiver's queue is full, and a stop must not wait for long


class Notifier:
    """The sender of this process's start, status and stop to systemd; does nothing outside of a unit."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    def loading(self, what: str) -> None:
        """Notify systemd that the app's code is being imported, which may take long."""
        self._send(f"STATUS={LOADING}{what}")

    def ready(self, status: str) -> None:
        """Notify systemd that the app is ready for requests."""
        kept = workdir.kept(os.environ)
        self._send(f"READY=1\nSTATUS={status}" + (f"; {kept}" if kept else ""))

    def status(self, text: str) -> None:
        """Set the unit's status, which shows people and flyted what this process is doing."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """Notify systemd, and log, that the app finishes its requests in flight and accepts no new ones."""
        say("stopping: requests in flight are finished, other work of the app ends")
        self._send("STOPPING=1\nSTATUS=finishing requests")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # "@" begins an abstract address. A lost message must not end the app: systemd's own timeouts decide.
        target = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(_TIMEOUT_S)
                channel.sendto(state.encode(), target)
        except OSError as error:
            say(f"cannot send {state.partition('=')[0]} to systemd: {error}; it is ignored")
