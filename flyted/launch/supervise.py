"""Supervises a program that opens a TCP port of its own, and the proxy that forwards requests to it.

The unit has a network namespace of its own, so every app may have port 8080. Requests arrive at the inherited socket,
from which systemd-socket-proxyd(8) takes them to the program's port, once that listens. This process stays the unit's
main process: it starts both, notifies systemd, and ends them in the right order.

HAProxy -> .socket (PID 1) -> systemd-socket-proxyd | one unit, one user,
                              launch, starts both   | one network namespace
                              the program, on 8080  |

The port is ready when it answers, on whatever address: an engine's ``/health`` with anything but 503, an app's own
path with less than 500 and not 404. At a stop the proxy is frozen at a moment without a connection, so that later
connections wait for the next start; then the program is ended. If either ends by itself, the unit ends.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, MutableMapping

from . import activation, listeners, workdir
from .drain import SECONDS, drain
from .log import Log
from .notify import Notifier
from .options import Options
from .port import FIRST_LOOK_S, LAST_LOOK_S, SLOWER, Port, become_proxy
from .refused import Refused
from .sleeper import SLEEP_NOW, Sleeper
from .surroundings import say
from .words import CANNOT_START, ENDED, EX_CONFIG

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, SLEEP_NOW)
_LAST_WORDS_S = 2.0


def supervise(options: Options, environ: MutableMapping[str, str], secrets: Iterable[bytes] = ()) -> int | None:
    """Fork. The child returns ``None`` and becomes the program; the parent supervises it.

    The parent returns the exit status when the program and the proxy have ended. It copies the program's output to the
    journal, without the values of ``secrets``. Raise ``Refused`` if systemd passed no listening socket.
    """
    listener = activation.listener(environ)
    if listener is None:
        raise Refused("systemd passed no listening socket; start the app through its .socket unit")
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    notifier = Notifier(environ.get("NOTIFY_SOCKET"))
    activation.forget(environ)
    log = Log(secrets)
    pid = os.fork()
    if pid == 0:
        log.enter()
        listener.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        return None
    log.watch()
    return Supervisor(options, pid, listener.fileno(), notifier, log).run()


class Supervisor:
    """The event loop of the unit's main process: it waits for the port, the end of a child, or a signal."""

    def __init__(self, options: Options, program: int, listener: int, notifier: Notifier, log: Log) -> None:
        self._app = options.app
        self._port = Port(options, notifier)
        self._program, self._listener = program, listener
        self._notifier, self._log = notifier, log
        self._sleeper = Sleeper(options.sleep, listener, notifier, _SIGNALS)
        self._proxy, self._target = 0, ""
        self._stopping = False
        self._refused = 0

    def run(self) -> int:
        """Run until the program has ended, then kill the proxy; return the exit status."""
        try:
            return self._wait()
        finally:
            if self._proxy:
                os.kill(self._proxy, signal.SIGKILL)  # it may be frozen
            self._sleeper.end()

    def _wait(self) -> int:
        pause = FIRST_LOOK_S
        while True:
            found = signal.sigtimedwait(_SIGNALS, pause) if not self._proxy else signal.sigwaitinfo(_SIGNALS)
            if found is None:
                self._look()
                pause = min(pause * SLOWER, LAST_LOOK_S)
            elif found.si_signo == signal.SIGCHLD:
                status = self._ended()
                if status is not None:
                    return status
            elif found.si_signo == SLEEP_NOW:
                if self._proxy and not self._stopping:
                    self._sleeper.begin(self._proxy, self._target)
            elif not self._stopping:
                self._stop(found.si_signo)
            else:
                os.kill(self._program, found.si_signo)

    def _look(self) -> None:
        """Start the proxy if the port serves; end the program if it never will."""
        try:
            target = None if self._stopping else self._port.look()
        except Refused as why:
            say(f"{CANNOT_START}{why}")
            self._refused = why.status
            self._end_program(signal.SIGTERM)
            return
        if target is not None:
            self._proxy, self._target = self._start_proxy(target), target
            self._notifier.ready(f"serving {self._app} on port {self._port.number}")
            workdir.tidy(os.environ)

    def _start_proxy(self, target: str) -> int:
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            become_proxy(self._listener, target)
        return pid

    def _ended(self) -> int | None:
        """Handle the end of each child that has ended; return the exit status if the program is one of them."""
        over = None
        for pid in (self._program, self._proxy, self._sleeper.pid):
            if pid and (ended := os.waitpid(pid, os.WNOHANG))[0]:
                status = os.waitstatus_to_exitcode(ended[1])
                if pid == self._program:
                    over = self._program_ended(status)
                elif pid == self._proxy:
                    self._proxy_ended()
                elif not self._sleeper.ended(status, go_on=not self._stopping and over is None):
                    # An engine that does not wake is killed: a client waits, and the engine may ignore SIGTERM too.
                    self._end_program(signal.SIGKILL if self._sleeper.asleep else signal.SIGTERM)
        return over

    def _program_ended(self, status: int) -> int:
        self._log.finish(_LAST_WORDS_S)  # so that the program's last lines come before ours
        if self._stopping:
            return self._refused
        if status < 0:
            say(f"the program was terminated by signal {_name(-status)}")
            return 128 - status
        known = {os.getpid(), self._program, self._proxy, self._sleeper.pid}
        if status == 0 and (left := listeners.others_of_this_unit(known)):
            say(
                f"{ENDED} with status {status} and left {len(left)} process(es) in the background: "
                "it has to stay in the foreground"
            )
            return EX_CONFIG
        if status != EX_CONFIG:  # launch itself, in the child, has logged why
            say(f"{ENDED} with status {status}" + ("" if self._proxy else " and never listened"))
        return status

    def _proxy_ended(self) -> None:
        """Stop the program, which no request can reach without the proxy; the next request starts both."""
        self._proxy = 0
        if not self._stopping:
            say("systemd-socket-proxyd exited: stopping the program")
            self._stop(signal.SIGTERM)

    def _stop(self, signum: int) -> None:
        """Wait for the requests in flight, then end the program; later ones wait in the socket for the next start."""
        if self._sleeper.still:
            self._end_program(signum)  # no request is in flight, and none may reach the sleeping engine
            return
        self._stopping = True
        self._notifier.stopping()
        if self._proxy:
            if not drain(self._proxy, SECONDS):
                say("requests are still in flight: closing their connections")
                os.kill(self._proxy, signal.SIGKILL)  # else a program that first finishes its requests would not end
        else:
            say(self._port.why_not())
        os.kill(self._program, signum)

    def _end_program(self, signum: int) -> None:
        self._sleeper.end()
        self._stopping = True
        self._notifier.stopping()
        os.kill(self._program, signum)


def _name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return str(signum)
