"""Runs a step's command as the second process of its own; this process is the first, and everything ends with it."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping, Sequence

from .failed import Failed, say
from .users import ROOT, Owner
from .words import EX_STEP


def run(argv: Sequence[str], environment: Mapping[str, str], show: str, *, cwd: str = "/", user: Owner = ROOT) -> None:
    """Run a command to its end. Raises :class:`Failed`, which names it as ``show``, if it does not exit with 0.

    Processes that it leaves behind are killed by the kernel when this process, their init, ends: pid_namespaces(7).
    """
    child = os.fork()
    if child == 0:
        _become(argv, environment, cwd, user)
    while True:
        ended, status = os.wait()  # also of processes that lost their parent
        if ended == child:
            break
    if os.WIFSIGNALED(status):
        raise Failed(EX_STEP, f"{show}: killed by {signal_name(os.WTERMSIG(status))}")
    if os.WEXITSTATUS(status):
        raise Failed(EX_STEP, f"{show}: exited with status {os.WEXITSTATUS(status)}")


def signal_name(number: int) -> str:
    """Return a signal's name; its number for most real-time signals, which have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _become(argv: Sequence[str], environment: Mapping[str, str], cwd: str, user: Owner) -> None:
    try:
        os.setsid()
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        os.chdir(cwd)
        os.execvpe(argv[0], list(argv), dict(environment))  # noqa: S606  a step has a shell if it asks for one
    except OSError as error:
        foreign = error.errno == errno.ENOEXEC
        why = "it is not for this machine's kind of processor" if foreign else error.strerror
        say(f"{argv[0]}: {why}")
    finally:
        os._exit(127)
