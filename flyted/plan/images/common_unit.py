"""Defines what the units of builds, layers and pulls have in common: their user, and how they end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

USER = "flyted-build"
PYTHON = "/usr/bin/python3"
RUNTIME_MAX_S = 3600
MEMORY_MAX = 8 << 30
"""Bytes that a build, or a step of one, may take; no setting changes it."""
_DISK_FULL = (
    "No space left on device",
    "Disk quota exceeded",
)  # strerror(3) of ENOSPC and EDQUOT
_LONGEST_LINE = 1000


def python_unit(
    description: str,
    program: Sequence[str],
    environment: Sequence[str],
    *,
    tag: str,
    memory_max: int,
    tasks_max: int,
    output_fd: int | None,
    runtime_max_s: int = RUNTIME_MAX_S,
    user: str = USER,
) -> dict[str, Any]:
    """Return the properties of a transient service that runs a program of flyted's by the machine's Python.

    ``program``: its path and its options. ``tag``: its name in the journal. ``output_fd``: the client's pipe, or None
    for the journal. ``user``: who runs it; "": a user that exists while it runs. What the unit may see and reach is
    not among them.
    """
    output: dict[str, Any] = {"StandardOutput": "journal", "StandardError": "inherit"}
    if output_fd is not None:
        output = {"StandardOutputFileDescriptor": output_fd, "StandardErrorFileDescriptor": output_fd}
    return {
        "Description": description,
        "Type": "exec",
        "ExecStartEx": [(PYTHON, [PYTHON, "-IS", *program], ["no-env-expand"])],
        **({"User": user, "Group": user} if user else {"DynamicUser": True}),
        "Environment": list(environment),
        "SyslogIdentifier": tag,
        "CollectMode": "inactive-or-failed",
        "RuntimeMaxUSec": runtime_max_s * 1_000_000,
        "TimeoutStopUSec": 10_000_000,
        "MemoryMax": memory_max,
        "TasksMax": tasks_max,
        "CPUWeight": 20,  # running apps come first
        "IOWeight": 20,
        **output,
    }


def variables(path: str, more: Mapping[str, str]) -> list[str]:
    """Return the variables of a unit. ``path``: its PATH. ``more``: the machine's settings, which win."""
    environment = {"PATH": path, "LANG": "C.UTF-8", **more}
    return [f"{name}={value}" for name, value in sorted(environment.items())]


def own_lines(lines: Iterable[str], mark: str) -> list[str]:
    """Return what a program said itself, without the ``mark`` by which its lines differ from those of others."""
    return [line.removeprefix(mark) for line in lines if line.startswith(mark)]


def was_killed(result: str, exit_status: int) -> bool:
    """Report whether a unit was killed: for its memory, or by a SIGKILL, which does not say why it came."""
    return result == "oom-kill" or (result == "signal" and exit_status == 9)


def filled_the_disk(lines: Iterable[str]) -> bool:
    """Report whether one of the programs of a unit found no room on the disk."""
    return any(text in line for line in lines for text in _DISK_FULL)


def plain(line: str) -> str:
    """Return a line of a stranger's, so that no character of it can move a terminal's cursor."""
    return "".join(char if char.isprintable() else " " for char in line[:_LONGEST_LINE])
