"""Freezes a replica's control group until a connection waits at its socket: the program of flyted-freeze@.service.

``main.py freeze GROUP`` returns once all processes of the group are frozen; ``main.py wait GROUP`` has the app's own
listening socket as descriptor 3 (``Sockets=``), and thaws the group when a connection waits there. So neither flyted
nor PID 1 nor D-Bus has to act when a request comes. If this program is killed, ``ExecStopPost=`` of its unit thaws.

It writes to ``cgroup.freeze`` itself (the kernel's cgroup-v2.rst): after systemd's FreezeUnit, PID 1 refuses to thaw a
unit for which a stop is queued, so that unit stays frozen and cannot be stopped (seen with systemd 252 and 257).
"""

from __future__ import annotations

import os
import select
import sys

LISTENER = 3
"""The first descriptor that systemd hands over (sd_listen_fds(3))."""
FREEZE_MS = 5000
"""Milliseconds in which the processes have to freeze: one in an uninterruptible system call does so after it."""


def main(words: list[str]) -> int:
    """Run the command line and return the exit status: 1 if the group did not freeze, and is thawed again."""
    step, group = words
    return freeze(group) if step == "freeze" else wait(group, LISTENER)


def freeze(group: str) -> int:
    """Freeze a control group, and wait until the kernel says that all of its processes are frozen."""
    events = os.open(f"{group}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    changes = select.poll()
    changes.register(events, select.POLLPRI)
    _write(group, b"1")
    while b"frozen 1" not in os.pread(events, 4096, 0):
        if not changes.poll(FREEZE_MS):
            _write(group, b"0")
            sys.stderr.write(f"{group} did not freeze within {FREEZE_MS // 1000} s\n")
            return 1
    return 0


def wait(group: str, listener: int) -> int:
    """Wait for a connection at ``listener``, and thaw a control group."""
    select.select([listener], [], [])
    _write(group, b"0")
    return 0


def _write(group: str, value: bytes) -> None:
    file = os.open(f"{group}/cgroup.freeze", os.O_WRONLY | os.O_CLOEXEC)
    os.write(file, value)
    os.close(file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
