"""Enters a user namespace in which the step is root, and the machine's users are unknown.

The unit's user has two capabilities, which write the namespace's map of users and are then given up. From then on no
process of the unit has a right in the machine: root of the namespace is the user BASE there, who owns layers only.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from . import kernel
from .damaged import printable
from .failed import Failed, say
from .seccomp import filter_of
from .words import BASE, EX_OSERR, EX_SOFTWARE, IDS

KEPT = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31})
"""The capabilities of a step in its namespace, those of a container (linux/capability.h): chown, dac_override,
dac_read_search, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, sys_chroot, audit_write, setfcap."""


def as_root(work: Callable[[], int]) -> int:
    """Do ``work`` in a child that is root of a new user namespace, and return the exit status that it returns.

    The child has every capability in that namespace, and this process none at all afterwards.
    """
    ready, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os._exit(settled(lambda: _begin(work, ready, mapped)))
    os.close(ready[1])
    os.close(mapped[0])
    if os.read(ready[0], 1):
        for kind in ("gid", "uid"):
            with open(f"/proc/{child}/{kind}_map", "w", encoding="ascii") as file:
                file.write(f"0 {BASE} {IDS}\n")
        kernel.keep_capabilities(frozenset())
        os.write(mapped[1], b"x")
    return status_of(child)


def _begin(work: Callable[[], int], ready: tuple[int, int], mapped: tuple[int, int]) -> int:
    kernel.die_with_parent()
    kernel.unshare(kernel.NEWUSER | kernel.NEWNS | kernel.NEWUTS | kernel.NEWIPC)
    os.close(mapped[1])
    os.write(ready[1], b"x")
    if not os.read(mapped[0], 1):
        raise Failed(EX_OSERR, "the map of users could not be written")
    os.setresgid(0, 0, 0)
    os.setgroups([])
    os.setresuid(0, 0, 0)
    kernel.die_with_parent()  # the change of user has undone it
    os.umask(0o022)
    kernel.mount("", "/", "", kernel.REC | kernel.SLAVE)
    return work()


def confine() -> None:
    """Give up what a step must not have: capabilities, new rights by programs, system calls. It cannot be undone."""
    program = filter_of(kernel.machine())
    kernel.keep_capabilities(KEPT)
    kernel.no_new_privileges()
    kernel.set_filter(program)


def status_of(child: int) -> int:
    """Wait for a child, and return its exit status; 128 and more if a signal ended it, as shells have it."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def settled(work: Callable[[], int]) -> int:
    """Do ``work`` and return its exit status; print why it failed, also where that is a fault of this program.

    A child that was forked for ``work`` must never continue with its parent's work: that would run inside the image.
    """
    try:
        return work()
    except Failed as failure:
        say(str(failure))
        return failure.status
    except OSError as error:
        what = printable(error.filename).strip("'") if isinstance(error.filename, bytes) else error.filename
        say(f"{what}: {error.strerror}" if error.filename else str(error))
        return EX_OSERR
    except Exception as error:  # noqa: BLE001 - a fault of ours, or a case that nobody thought of
        say(f"internal error in flyted: {type(error).__name__}: {error} ({_place(error)})")
        return EX_SOFTWARE


def _place(error: Exception) -> str:
    """Return where an error was raised. Not by the module traceback, which would read source files of the image."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return f"{last.tb_frame.f_code.co_name}, line {last.tb_lineno}" if last is not None else "?"
