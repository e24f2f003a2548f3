"""Forwards requests to the app's port, for a server function that is not uvicorn.

The app has a network of its own, so only this process or one that it started can listen on the port: http.server,
Flask, Panel, Streamlit. A thread polls until uvicorn takes the inherited socket (adopt.py) or the port serves,
whichever comes first.

The app's own code owns that process and its signals, so systemd has the proxy frozen first, by ``ExecStop=``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

from . import drain, host, workdir
from .adopt import Adopter
from .notify import Notifier
from .port import FIRST_LOOK_S, LAST_LOOK_S, SLOWER, Port, proxy
from .refused import Refused
from .surroundings import flush, say
from .words import CANNOT_START, EX_TEMPFAIL

_LISTENER = 3  # the only descriptor that systemd-socket-proxyd is given (sd_listen_fds(3))
# A shell sets LISTEN_PID, since a thread should not fork without exec.
_AS_PROXY = 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"'


class Lead:
    """The thread that starts systemd-socket-proxyd when the port serves.

    At a stop systemd has the proxy drained (drain.py) before it ends the app.
    """

    def __init__(self, adopter: Adopter, notifier: Notifier, port: Port, app: str) -> None:
        self._adopter, self._notifier, self._port, self._app = adopter, notifier, port, app
        self._stopping = False
        self._proxy: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start the thread that polls the port."""
        threading.Thread(target=self._run, name="lead", daemon=True).start()

    def stopping(self) -> None:
        """Note that the app is being stopped, so that the end of the proxy is no longer a failure."""
        self._stopping = True

    def end(self) -> None:
        """Kill the proxy, since the app has ended. By SIGKILL: the proxy may be frozen."""
        self._stopping = True
        if self._proxy is not None:
            self._proxy.kill()

    def _run(self) -> None:
        try:
            self._look()
        except Refused as why:
            self._give_up(why)
        except Exception as error:  # noqa: BLE001 - no process is left, say: without this thread the app would hang
            self._give_up(Refused(f"requests cannot be forwarded to port {self._port.number}: {error}", EX_TEMPFAIL))

    def _give_up(self, why: Refused) -> None:
        say(f"{CANNOT_START}{why}")
        flush()
        self.end()
        os._exit(why.status)

    def _look(self) -> None:
        pause = FIRST_LOOK_S
        while not self._adopter.taken:
            target = self._port.look()
            if target is not None:
                self._to(target)
                return
            time.sleep(pause)
            pause = min(pause * SLOWER, LAST_LOOK_S)

    def _to(self, target: str) -> None:
        listener = self._adopter.give_up()
        if listener is None:
            return  # uvicorn has taken it
        argv = [*host.program("bin/sh"), "-c", _AS_PROXY, *proxy(target)]
        self._proxy = process = subprocess.Popen(argv, pass_fds=[_LISTENER], env={})
        drain.offer(process.pid)
        self._notifier.ready(f"serving {self._app} on port {self._port.number}")
        workdir.tidy(os.environ)
        status = process.wait()
        if not self._stopping:
            say(f"systemd-socket-proxyd exited ({status}): stopping the app")
            os.kill(os.getpid(), signal.SIGTERM)
