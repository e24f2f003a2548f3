"""Reads /proc about GPUs and the processes that use them (proc(5); NVIDIA's MIG guide, "Device Nodes")."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_VERSION = re.compile(r"Kernel Module(?: for \S+)?\s+([0-9][0-9.]*)")
_MINOR = re.compile(r"^DeviceFileMinor:\s*([0-9]+)$", re.MULTILINE)
_UNIT = re.compile(r"/([A-Za-z0-9:_.@\\-]+\.(?:service|scope))(?:/|$)")


def process(proc: Path, pid: int) -> dict[str, Any]:
    """Return the name and systemd unit of a process; both are "" if it has ended or may not be read.

    A process chooses its own name, so a character that cannot be printed becomes a question mark.
    """
    name = _read(proc / str(pid) / "comm").removesuffix("\n")
    printable = "".join(char if char.isprintable() else "?" for char in name)
    return {"name": printable, "unit": unit_of(_read(proc / str(pid) / "cgroup"))}


def unit_of(cgroup: str) -> str:
    """Return the innermost service or scope in a /proc/PID/cgroup, "" if there is none.

    ``0::/flyted.slice/…/x.service`` → ``x.service``.
    """
    path = next((line.partition("::")[2] for line in cgroup.splitlines() if line.startswith("0::")), "")
    found = _UNIT.findall(path)
    return found[-1] if found else ""


def driver_of_the_kernel(proc: Path) -> str:
    """Return the version of the loaded NVIDIA kernel module, "" if none is loaded."""
    found = _VERSION.search(_read(proc / "driver/nvidia/version"))
    return found[1] if found else ""


def memory_of_the_machine(proc: Path) -> int:
    """Return the bytes of all memory, used or not; 0 if /proc/meminfo does not say."""
    found = re.search(r"^MemTotal:\s*([0-9]+) kB$", _read(proc / "meminfo"), re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def capability_minors(proc: Path, gpu: int, instance: int, compute: int) -> list[int]:
    """Return the N of each /dev/nvidia-caps/nvidia-capN that opens a partition.

    Raises ``OSError`` when /proc does not name one.
    """
    base = proc / f"driver/nvidia/capabilities/gpu{gpu}/mig/gi{instance}"
    minors = []
    for path in (base / "access", base / f"ci{compute}/access"):
        found = _MINOR.search(path.read_text())
        if found is None:
            raise OSError(f"{path} has no DeviceFileMinor")
        minors.append(int(found[1]))
    return minors


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
