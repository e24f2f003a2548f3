"""Drains systemd-socket-proxyd(8): waits for its connections to end, and has it accept no more, without losing any.

The proxy has no graceful stop: SIGTERM cuts every connection. So it is frozen (SIGSTOP) at a moment when it has no
connection. Later clients wait in the listening socket, which systemd holds too, for the next start. Its connections
are counted while it is stopped. A connection that it has just accepted, but not yet connected to the program, shows
only as one more descriptor; so two counts of the descriptors, with a pause between them, have to agree.

systemd-socket-proxyd, not a proxy of our own: it splices data in the kernel, and every systemd machine has it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time

from . import listeners
from .surroundings import say

_BETWEEN_S = 0.02
_SHORTEST_S, _LONGEST_S = 0.005, 0.1


SECONDS = 20.0
_ANSWER_S = SECONDS + 5.0


def drain_unit() -> int:
    """Make the main process of this unit drain its proxy, before systemd stops the app (``ExecStop=``).

    Return 0 in any case: now if the main process has no proxy, and after :data:`_ANSWER_S` seconds at the latest.
    """
    main = os.environ.get("MAINPID")
    if main:  # otherwise the app has ended, and its requests with it
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(_ANSWER_S)
            asking.connect(_address(main))
            asking.recv(1)  # returns when the other side closes
    return 0


def offer(pid: int) -> None:
    """Drain the proxy ``pid``, a child of this process, when :func:`drain_unit` asks for it; kill it if it stays busy.

    ``drain_unit`` cannot do that itself: systemd runs each command of a unit in a user namespace of its own
    (``PrivateUsers=``), from which proc(5) shows no process of another one (``ProtectProc=invisible``).
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(_address(os.getpid()))
    listener.listen(1)
    threading.Thread(target=_answer, args=(listener, pid), name="drain", daemon=True).start()


def _answer(listener: socket.socket, pid: int) -> None:
    while True:
        asked, _ = listener.accept()
        with asked:
            if not drain(pid, SECONDS):
                say("requests are still in flight: closing their connections")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _address(main: int | str) -> str:
    """Return an abstract address (unix(7)): in the app's own network namespace, where no other program can bind it."""
    return f"\0flyted/drain/{main}"


def drain(pid: int, seconds: float) -> bool:
    """Freeze process ``pid`` at a moment when it is idle, and return ``True``.

    Return ``False`` if it was not idle within ``seconds``, or if that cannot be found out: it runs on then. Return
    ``False`` as well if it has ended.
    """
    idle = False
    try:
        idle = _idle_within(pid, seconds)
    except OSError:
        pass  # it has ended, or this process has no descriptor left to look at it
    finally:
        if not idle:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    return idle


def _idle_within(pid: int, seconds: float) -> bool:
    """Do what :func:`drain` does, except that the process may be left stopped if it is not idle.

    Raise ``OSError`` as :func:`_frozen` does.
    """
    end = time.monotonic() + seconds
    pause = _SHORTEST_S
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
    return False


def _frozen(pid: int) -> int | None:
    """Stop the process; return the number of its descriptors, or ``None`` if one of them is a TCP connection.

    Raise ``OSError`` if the process has ended, or if proc(5) cannot be read.
    """
    os.kill(pid, signal.SIGSTOP)
    while not _stands(pid):
        time.sleep(0.0005)
    folder = f"/proc/{pid}/fd"
    held = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
    sockets = {each[8:-1] for each in held if each.startswith("socket:[")}
    return None if sockets & listeners.tcp_inodes() else len(held)


def _stands(pid: int) -> bool:
    """Report whether the process is stopped or dead. Raise ``OSError`` if there is no such process."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0] in "TtZX"
