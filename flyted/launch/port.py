"""Watches the TCP port of an app until it serves, and becomes the proxy that forwards requests to it."""

from __future__ import annotations

import os
import time

from . import h2c, health, host, listeners
from .notify import Notifier
from .options import Options
from .surroundings import say
from .words import BACKLOG, WAITING

PROXY = "lib/systemd/systemd-socket-proxyd"  # below /usr
CONNECTIONS = BACKLOG  # and more than the ingress opens (plan/reconcile.py)
FIRST_LOOK_S, LAST_LOOK_S = 0.005, 0.1  # the interval of polls; one costs some 50 µs
SLOWER = 1.2
_DOUBT_S = 5.0  # a program that listens on another port for so long will probably stay there


class Port:
    """The app's port, polled until it serves.

    If the program listens only on another port, that is logged once, and set as the unit's status.
    """

    def __init__(self, options: Options, notifier: Notifier) -> None:
        self.number = options.port or options.server_port
        self._ready = h2c.Ready() if options.h2c else health.Ready(options.ready, options.health)
        self._notifier = notifier
        self._doubt = time.monotonic() + _DOUBT_S

    def look(self) -> str | None:
        """Return the ``address:port`` at which the program serves, for systemd-socket-proxyd; ``None`` if not yet.

        Raise ``Refused`` if it never will.
        """
        heard = listeners.listening()
        target = listeners.target(heard, self.number)
        if target is not None:
            return target if self._ready.at(target) else None
        if heard and not self._ready.asks and time.monotonic() > self._doubt:  # engines also open other ports
            self._doubt = float("inf")
            why = self._elsewhere(heard)
            say(why)
            self._notifier.status(f"{WAITING}{why}")
        return None

    def why_not(self) -> str:
        """Return the reason why the port does not serve."""
        heard = listeners.listening()
        if listeners.target(heard, self.number) is None:
            return self._elsewhere(heard) if heard else f"nothing listens on port {self.number}"
        who = f"{self._ready.asks} says that it is not ready" if self._ready.asks else "it does not answer"
        return f"port {self.number} listens, but {who}"

    def _elsewhere(self, heard: list[tuple[str, int]]) -> str:
        where = ", ".join(sorted({str(port) for _address, port in heard}, key=int))
        return f"nothing listens on port {self.number}, but the program does on {where}: is port= of the app right?"


def proxy(target: str) -> list[str]:
    """Return the command line of systemd-socket-proxyd."""
    return [*host.program(PROXY), f"--connections-max={CONNECTIONS}", target]


def become_proxy(listener: int, target: str) -> None:
    """Replace this process by systemd-socket-proxyd on ``listener``; if that fails, end it with status 1."""
    try:
        os.set_inheritable(listener, True)  # noqa: FBT003
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        argv = proxy(target)
        os.execve(argv[0], argv, environ)  # noqa: S606
    except OSError as error:
        say(f"/usr/{PROXY} cannot be run: {error.strerror}")
    finally:
        os._exit(1)
