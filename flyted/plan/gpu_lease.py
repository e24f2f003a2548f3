"""The life of a lease: which nodes it opens, what the app is told, when its memory has come back. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from flyted.plan.gpu_facts import Device, Inventory, Learned, Lease

CREDENTIAL = "gpu"
ALWAYS = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
"""What every CUDA program opens; the tools are for profilers. Neither gives access to a GPU by itself."""
SLACK_BYTES = 256 << 20
SLACK_SHARE = 0.02
"""The driver keeps a little more or less at different times (contexts, persistence); a leak is larger."""
MIN_IDLE_S = 5.0  # an app whose last request just ended is about to get the next one
MIN_LOAD_S = 1.0
DEADLY = frozenset({48, 64, 74, 79, 95, 119, 120, 140, 143, 154})
"""XID errors after which a GPU computes nothing until it is reset (NVIDIA's "XID Errors": uncorrectable memory, row
remapping failed, NVLink, fallen off the bus, uncontained, GSP). Others are the program's own fault."""
_ALIVE = ("active", "activating", "reloading", "deactivating")


def nodes(devices: Sequence[Device], inventory: Inventory) -> list[tuple[str, str]]:
    """``DeviceAllow=`` for exactly these devices: paths, since the majors of uvm and of partitions are dynamic."""
    paths = dict.fromkeys(ALWAYS)
    for device in devices:
        gpu = inventory.gpu_of(device.uuid) or device
        paths[f"/dev/nvidia{gpu.minor}"] = None
        paths.update(dict.fromkeys(f"/dev/nvidia-caps/nvidia-cap{minor}" for minor in device.capabilities))
    return [(path, "rw") for path in paths]


def granted(devices: Iterable[Device]) -> bytes:
    """The credential of a unit that got a lease; ``launch`` reads it."""
    return json.dumps({"devices": [device.uuid for device in devices]}).encode()


def refused(why: str) -> bytes:
    """The credential of a unit that got none: ``launch`` tells the app's own log why, and ends."""
    return json.dumps({"refused": why}).encode()


def lease_of(unit: str, app_id: str, revision: int, devices: Sequence[Device], reserve: int, now: float) -> Lease:
    """The record of a grant."""
    return Lease(
        unit, app_id, revision, tuple(d.uuid for d in devices), now, tuple(d.name for d in devices), reserve,
        tuple(d.unexplained_bytes for d in devices),
    )  # fmt: skip


def ended(leases: Iterable[Lease], active: Mapping[str, str]) -> list[Lease]:
    """The leases whose units have ended; ``active``: the ActiveState of each unit that is loaded."""
    return [lease for lease in leases if lease.ended_at is None and active.get(lease.unit) not in _ALIVE]


def returned(lease: Lease, inventory: Inventory) -> bool:
    """Whether the memory of a lease that is over has come back: none of its processes is left, nothing is unexplained.

    A device that is gone or broken holds nothing that could be granted.
    """
    return not left(lease, inventory)


def left(lease: Lease, inventory: Inventory) -> int:
    """Bytes of a lease that is over which have not come back; at least 1 while a process of it is left."""
    total = 0
    for uuid, before in zip(lease.devices, lease.unexplained, strict=True):
        device = inventory.find(uuid)
        if device is None or device.error:
            continue
        own = [p for p in device.processes if p.unit == lease.unit]
        total += sum(max(1, p.used_bytes) for p in own)
        excess = device.unexplained_bytes - before
        total += excess if excess > max(SLACK_BYTES, SLACK_SHARE * device.total_bytes) else 0
    return total


def used(unit: str, uuids: Iterable[str], inventory: Inventory) -> int:
    """The most that a unit's processes use of one of its devices, in bytes."""
    devices = [device for uuid in uuids if (device := inventory.find(uuid)) is not None]
    return max((sum(p.used_bytes for p in d.processes if p.unit == unit) for d in devices), default=0)


def lost(lease: Lease, inventory: Inventory) -> str:
    """Why a lease that runs is worth nothing any more; "" while all its devices work."""
    for uuid, name in zip(lease.devices, lease.names, strict=True):
        device = inventory.find(uuid)
        if device is None:
            return inventory.reason or f"{uuid} ({name}) is gone"
        gpu = inventory.gpu_of(uuid)
        why = device.error or (gpu.error if gpu else "")
        if why:
            return f"{uuid} ({device.name}): {why}"
    return ""


def hit(lease: Lease, uuid: str, inventory: Inventory) -> bool:
    """Whether an error of the GPU ``uuid`` is one of a device of the lease."""
    return any(uuid in (each, gpu.uuid if (gpu := inventory.gpu_of(each)) else "") for each in lease.devices)


def worth(idle_s: float, learned: Learned, least_s: float = MIN_IDLE_S) -> float | None:
    """How good it is to put an idle app to sleep: idle time ÷ the time to load again; ``None``: leave it."""
    return idle_s / max(MIN_LOAD_S, learned.load_s) if idle_s >= least_s else None
