"""Runs an app that is a program, not a server function.

Python programs of the image run inside this process: every user of the machine can read a process's arguments, but no
other process ``sys.argv``. Other programs replace this process, and then no argument may hold a secret. No shell is
used.
"""

from __future__ import annotations

import errno
import os
import re
import runpy
import shutil
import sys

from .refused import Refused

_PYTHON = re.compile(r"python(3(\.\d+)?)?")


class Plan:
    """The way to run a command.

    ``how``: "script", "module" or "exec". ``what``: the path or module. ``args``: the arguments.
    """

    def __init__(self, how: str, what: str, args: list[str]) -> None:
        self.how, self.what, self.args = how, what, args

    @property
    def is_uvicorn(self) -> bool:
        """True if this is uvicorn's own command, which has to serve on the inherited socket."""
        return self.how != "exec" and os.path.basename(self.what) == "uvicorn"


def plan(command: list[str]) -> Plan:
    """Decide how to run a command. Raise ``Refused`` if there is no such program."""
    name, args = command[0], command[1:]
    found = shutil.which(name)
    if found is None:
        there = "/" in name and os.path.isfile(name)
        raise Refused(f"program {name!a} is not {'executable: chmod +x' if there else 'in the image'}")
    ours = os.path.dirname(os.path.abspath(found)) == os.path.dirname(sys.executable)
    if ours and _PYTHON.fullmatch(os.path.basename(found)):
        return _python(found, args)
    if ours and _is_python_script(found):
        return Plan("script", found, args)
    return Plan("exec", found, args)


def run(chosen: Plan) -> int:
    """Run a Python program in this process; return 0 at its end, and pass its exceptions on, ``SystemExit`` too."""
    sys.argv = [chosen.what, *chosen.args]
    if chosen.how == "module":
        runpy.run_module(chosen.what, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(chosen.what, run_name="__main__")
    return 0


def replace(chosen: Plan, name: str) -> None:
    """Replace this process by another program, which gets the listening socket and variables as systemd passed them.

    Raise ``Refused`` if the program cannot be run.
    """
    try:
        os.execv(chosen.what, [name, *chosen.args])  # noqa: S606
    except OSError as error:
        raise Refused(f"program {name!a} cannot be run: {_why(chosen.what, error)}") from None


def _why(path: str, error: OSError) -> str | None:
    """Return why a program cannot be run. If another file is missing, the kernel does not say which (execve(2))."""
    if error.errno != errno.ENOENT or not os.path.exists(path):
        return error.strerror
    with open(path, "rb") as file:
        head = file.read(256)
    if not head.startswith(b"#!"):
        return "the C library that it was built for is not in the image"
    first = head.split(b"\n")[0].decode("utf-8", "replace")
    return f"its first line, {first!a}, names a program that is not in the image"


def _python(interpreter: str, args: list[str]) -> Plan:
    rest = args[1:] if args[:1] == ["-u"] else args
    if len(rest) >= 2 and rest[0] == "-m":
        return Plan("module", rest[1], rest[2:])
    if rest and not rest[0].startswith("-"):
        sys.path.insert(0, os.path.dirname(os.path.abspath(rest[0])))
        return Plan("script", rest[0], rest[1:])
    return Plan("exec", interpreter, args)


def _is_python_script(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError:
        return False
    # If the interpreter's path is too long for a first line, pip and uv write "#!/bin/sh" and `'''exec' …python`.
    return head.startswith(b"#!") and b"python" in head
