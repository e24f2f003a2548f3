"""GPUs as values, for tests of what is decided about them."""

from __future__ import annotations

from typing import Any

from flyted.contract.gpu import Ask
from flyted.plan.gpus.facts import Device, Inventory, Lease, Process
from flyted.plan.gpus.place import Wanted

GIB = 1 << 30


def gpu(uuid: str, name: str = "NVIDIA L40S", gib: int = 45, used: float = 0.0, **more: Any) -> Device:
    """A whole GPU; ``used`` GiB are used by no process that is listed."""
    processes = more.get("processes", ())
    taken = round(used * GIB) + sum(p.used_bytes for p in processes)
    return Device(uuid, name, more.pop("minor", 0), gib * GIB, taken, **more)


def process(unit: str, gib: float, pid: int = 7) -> Process:
    """What a unit's process uses."""
    return Process(pid, "python", unit, round(gib * GIB))


def machine(*devices: Device, **more: Any) -> Inventory:
    """A machine with a driver and these."""
    return Inventory(driver="580.95.05", cuda="13.0", devices=devices, **more)


def unit(app: str, revision: int = 1) -> str:
    """An app's service."""
    return f"flyted-app-{app}-r{revision}-0.service"


def lease(app: str, *uuids: str, reserve: float = 0.0, ended: float | None = None, unexplained: int = 0) -> Lease:
    """An app's lease; ``reserve`` in GiB, 0: the whole device."""
    return Lease(
        unit(app), app, 1, uuids, 100.0, ("NVIDIA L40S",) * len(uuids), round(reserve * GIB),
        (unexplained,) * len(uuids), ended,
    )  # fmt: skip


NEW = unit("new")


def wanted(count: int = 1, name: str = "", peak: float = 0.0) -> Wanted:
    """The newcomer."""
    return Wanted(NEW, Ask(count, name), round(peak * GIB))
