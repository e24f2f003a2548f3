"""Puts the engine to sleep when flyted says so, and wakes it at the next request. The engine's process stays.

While the engine sleeps the proxy is frozen (drain.py), so new connections wait in the socket and cannot reach the
engine. A child process talks to the engine and waits: so launch still reacts to systemd, whatever the engine does.

So no request reaches an engine that sleeps, where it would hang, and a wake needs neither the daemon nor the ingress.
An engine that does not fall asleep is stopped; one that does not wake is killed, and systemd starts it again for the
requests that wait. A sleeping engine keeps its lease, and is stopped when another app needs its GPU.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable

from . import engine_sleep
from .drain import drain
from .notify import Notifier
from .surroundings import say
from .words import ASLEEP, AWAKE

SLEEP_NOW = signal.SIGUSR1
_DRAIN_S = 3.0


class Sleeper:
    """The engine's state: awake, going to sleep, or asleep until a connection arrives."""

    def __init__(self, level: int, listener: int, notifier: Notifier, blocked: Iterable[signal.Signals]) -> None:
        self._level, self._listener, self._notifier = level, listener, notifier
        self._blocked = tuple(blocked)
        self._proxy, self._target = 0, ""
        self.asleep = False  # true from the end of a successful sleep to the end of a successful wake
        self._tries = 0
        self.pid = 0  # the child process that talks to the engine, or waits for a connection

    @property
    def still(self) -> bool:
        """True if the proxy is frozen for the engine's sleep."""
        return bool(self.pid)

    def begin(self, proxy: int, target: str) -> None:
        """Begin to put the engine to sleep; if a request is in flight or a connection waits, it stays awake.

        ``proxy``: the proxy's process. ``target``: the engine's ``address:port``.
        """
        if self.pid or not self._level:
            return
        self._tries += 1
        self._proxy, self._target = proxy, target
        if not drain(proxy, _DRAIN_S):
            self._stay_awake("busy")
        elif engine_sleep.connection_waits(self._listener):
            os.kill(proxy, signal.SIGCONT)
            self._stay_awake("asked for")
        else:
            self.pid = self._child(lambda: engine_sleep.put_to_sleep(target, self._level))

    def ended(self, status: int, *, go_on: bool) -> bool:
        """Handle the exit of the child process. Return ``False`` if it failed and the engine has to be ended.

        ``status``: its exit status. ``go_on``: whether the engine is to keep serving.
        """
        self.pid = 0
        if status or not go_on:
            return not go_on
        self.asleep = not self.asleep
        if self.asleep:
            self._notifier.status(f"{ASLEEP}, vLLM at level {self._level}: the next request wakes it")
            self.pid = self._child(lambda: engine_sleep.wake_on_connection(self._listener, self._target, self._level))
        else:
            os.kill(self._proxy, signal.SIGCONT)
            self._notifier.status(f"{AWAKE} again, after sleep {self._tries}")
        return True

    def end(self) -> None:
        """Kill the child process, since the unit ends."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def _stay_awake(self, why: str) -> None:
        self._notifier.status(f"{AWAKE}, {why} at try {self._tries} to sleep")

    def _child(self, work: Callable[[], None]) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._blocked)
            work()
            status = 0
        except (engine_sleep.Failed, OSError) as why:
            way = "wake up" if self.asleep else "go to sleep"
            say(f"vLLM did not {way}: {why}; it is {'restarted' if self.asleep else 'stopped instead'}")
        finally:
            os._exit(status)
