"""How systemd-socket-proxyd(8) is brought to rest: nothing in flight, nothing more accepted, nothing lost.

It knows no such end: SIGTERM cuts every connection. So it is frozen (SIGSTOP) at a moment when it has none; who comes
then waits in the listening socket, which systemd holds too, for the next start. Whether it has one is seen while it
stands still. One that it has just accepted, and not connected yet, shows only as one more descriptor: so two looks
have to find the same.
"""

from __future__ import annotations

import os
import signal
import time

from . import listeners
from .surroundings import say

_BETWEEN_S = 0.02
_SHORTEST_S, _LONGEST_S = 0.005, 0.1


SECONDS = 20.0
_COMM = "systemd-socket-"  # what proc(5) keeps of the proxy's name


def drain_unit() -> int:
    """Drains the proxy of this unit, before systemd ends the app (``ExecStop=``); 0, whatever is found."""
    if os.environ.get("MAINPID"):  # else the app has ended, and its requests with it
        for pid in listeners.others_of_this_unit({os.getpid()}):
            if _comm(pid) == _COMM and not drain(pid, SECONDS):
                say("requests are still in flight: they are cut off")
                os.kill(pid, signal.SIGKILL)
    return 0


def drain(pid: int, seconds: float) -> bool:
    """Freezes process ``pid`` when it is idle; ``False`` if it was never seen idle, or is gone: it runs on, then."""
    end = time.monotonic() + seconds
    pause = _SHORTEST_S
    try:
        while time.monotonic() < end:
            before = _frozen(pid)
            if before is not None:
                os.kill(pid, signal.SIGCONT)
                time.sleep(_BETWEEN_S)
                if _frozen(pid) == before:
                    return True
            os.kill(pid, signal.SIGCONT)
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_S)
    except OSError:
        return False
    return False


def _comm(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _frozen(pid: int) -> int | None:
    """Stops the process; how many descriptors it has, ``None`` if one of them is a TCP connection."""
    os.kill(pid, signal.SIGSTOP)
    while not _stands(pid):
        time.sleep(0.0005)
    folder = f"/proc/{pid}/fd"
    held = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
    sockets = {each[8:-1] for each in held if each.startswith("socket:[")}
    return None if sockets & listeners.tcp_inodes() else len(held)


def _stands(pid: int) -> bool:
    """Whether the process is stopped, or dead; raises ``OSError`` if there is none."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0] in "TtZX"
