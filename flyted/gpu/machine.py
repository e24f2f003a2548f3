"""What /proc knows about GPUs and the processes that use them (proc(5); NVIDIA's MIG guide, "Device Nodes")."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_VERSION = re.compile(r"Kernel Module(?: for \S+)?\s+([0-9][0-9.]*)")
_MINOR = re.compile(r"^DeviceFileMinor:\s*([0-9]+)$", re.MULTILINE)
_UNIT = re.compile(r"/([A-Za-z0-9:_.@\\-]+\.(?:service|scope))(?:/|$)")


def process(proc: Path, pid: int) -> dict[str, Any]:
    """Name and systemd unit of a process; empty for one that is gone or not ours to see.

    A process names itself as it likes, so what cannot be printed becomes a question mark.
    """
    name = _read(proc / str(pid) / "comm").removesuffix("\n")
    printable = "".join(char if char.isprintable() else "?" for char in name)
    return {"name": printable, "unit": unit_of(_read(proc / str(pid) / "cgroup"))}


def unit_of(cgroup: str) -> str:
    """The innermost service or scope in /proc/PID/cgroup: ``0::/flyted.slice/…/x.service`` → ``x.service``."""
    path = next((line.partition("::")[2] for line in cgroup.splitlines() if line.startswith("0::")), "")
    found = _UNIT.findall(path)
    return found[-1] if found else ""


def driver_of_the_kernel(proc: Path) -> str:
    """The version of the loaded module, "" when none is."""
    found = _VERSION.search(_read(proc / "driver/nvidia/version"))
    return found[1] if found else ""


def memory_of_the_machine(proc: Path) -> int:
    """All memory, in bytes."""
    found = re.search(r"^MemTotal:\s*([0-9]+) kB$", _read(proc / "meminfo"), re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def capability_minors(proc: Path, gpu: int, instance: int, compute: int) -> list[int]:
    """The N of the /dev/nvidia-caps/nvidia-capN that open a partition. Raises ``OSError`` when one is not told."""
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
