"""Follows a lease of GPUs: its device nodes, the app's credential, and when its memory is free again. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from flyted.launch.words import DEVICES, ENVIRONMENT, REFUSED
from flyted.plan.gpus.facts import Device, Inventory, Learned, Lease

CREDENTIAL = "gpu"
ALWAYS = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
"""The nodes that every CUDA program opens; the tools are for profilers. None gives access to a GPU by itself."""
SLACK_BYTES = 256 << 20
SLACK_SHARE = 0.02
"""Memory that may stay in use: the driver keeps a little more or less over time (contexts, persistence).

A leak is larger.
"""
MIN_IDLE_S = 5.0  # an app whose last request has just ended may be about to get the next one
MIN_LOAD_S = 1.0
DEADLY = frozenset({48, 64, 74, 79, 95, 119, 120, 140, 143, 154})
"""XID errors after which a GPU computes nothing until it is reset (NVIDIA's "XID Errors": uncorrectable memory, row
remapping failed, NVLink, fallen off the bus, uncontained, GSP). Others are the program's own fault."""
_ALIVE = ("active", "activating", "reloading", "deactivating")


def nodes(devices: Sequence[Device], inventory: Inventory) -> list[tuple[str, str]]:
    """Return ``DeviceAllow=`` for exactly these devices.

    It lists paths, because the major numbers of uvm and of partitions are dynamic.
    """
    paths = dict.fromkeys(ALWAYS)
    for device in devices:
        gpu = inventory.gpu_of(device.uuid) or device
        paths[f"/dev/nvidia{gpu.minor}"] = None
        paths.update(dict.fromkeys(f"/dev/nvidia-caps/nvidia-cap{minor}" for minor in device.capabilities))
    return [(path, "rw") for path in paths]


def granted(devices: Iterable[Device], environment: Mapping[str, str]) -> bytes:
    """Return the credential of a unit that got a lease, for ``launch`` to read. ``environment``: what is set, too."""
    more = {ENVIRONMENT: dict(environment)} if environment else {}
    return json.dumps({DEVICES: [device.uuid for device in devices], **more}).encode()


def refused(why: str) -> bytes:
    """Return the credential of a unit that got no lease: ``launch`` prints why to the app's log, and ends."""
    return json.dumps({REFUSED: why}).encode()


def lease_of(unit: str, app_id: str, revision: int, devices: Sequence[Device], reserve: int, now: float) -> Lease:
    """Return the lease that records a grant.

    ``reserve``: the bytes of a device that it may take, 0 for all. ``now``: seconds since the epoch.
    """
    return Lease(
        unit, app_id, revision, tuple(d.uuid for d in devices), now, tuple(d.name for d in devices), reserve,
        tuple(d.unexplained_bytes for d in devices),
    )  # fmt: skip


def ended(leases: Iterable[Lease], active: Mapping[str, str]) -> list[Lease]:
    """Return the leases whose units have ended. ``active``: the ActiveState of each unit that is loaded."""
    return [lease for lease in leases if lease.ended_at is None and active.get(lease.unit) not in _ALIVE]


def returned(lease: Lease, inventory: Inventory) -> bool:
    """Report whether the memory of a lease that is over is free again.

    It is when no process of the unit is left, and no more memory than before the lease is used without a process that
    explains it. A device that is gone or broken does not count: it holds nothing that could be granted.
    """
    return not left(lease, inventory)


def left(lease: Lease, inventory: Inventory) -> int:
    """Return the bytes of a lease that is over that are not free yet; at least 1 while a process of it is left."""
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
    """Return the most bytes that a unit's processes use on one of its devices."""
    devices = [device for uuid in uuids if (device := inventory.find(uuid)) is not None]
    return max((sum(p.used_bytes for p in d.processes if p.unit == unit) for d in devices), default=0)


def lost(lease: Lease, inventory: Inventory) -> str:
    """Return why a running lease cannot be used any more; "" while all its devices work."""
    for uuid, name in zip(lease.devices, lease.names, strict=True):
        device = inventory.find(uuid)
        if device is None:
            return inventory.reason or f"{uuid} ({name}) is gone"
        gpu = inventory.gpu_of(uuid)
        why = device.error or (gpu.error if gpu else "")
        if why:
            return f"{uuid} ({device.name}): {why}"
    return ""


def lost_by(leases: Iterable[Lease], uuid: str, number: int, inventory: Inventory) -> dict[str, str]:
    """Return the units that lost their GPU by an error, and why.

    ``number``: the XID error that the GPU ``uuid`` reported; 0 where reports may have been missed. ``inventory``: the
    GPUs as they were after it.
    """
    found = {}
    for lease in leases:
        why = lost(lease, inventory)
        if not why and number in DEADLY and hit(lease, uuid, inventory):
            why = uuid
        if why:
            found[lease.unit] = why + (f" (XID {number})" if number else "")
    return found


def hit(lease: Lease, uuid: str, inventory: Inventory) -> bool:
    """Report whether an error of the GPU ``uuid`` concerns a device of the lease, or the GPU that it is a part of."""
    return any(uuid in (each, gpu.uuid if (gpu := inventory.gpu_of(each)) else "") for each in lease.devices)


def worth(idle_s: float, learned: Learned, least_s: float = MIN_IDLE_S) -> float | None:
    """Return how good it is to put an idle app to sleep: its idle time ÷ the time to load again.

    ``None``: it has been idle for less than ``least_s`` seconds, so leave it.
    """
    return idle_s / max(MIN_LOAD_S, learned.load_s) if idle_s >= least_s else None
