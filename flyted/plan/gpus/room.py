"""Says for how many more replicas of an app there are GPUs now, while all other apps keep theirs. Pure."""

from __future__ import annotations

from dataclasses import replace

from flyted.contract.gpu import Ask
from flyted.plan.gpus.facts import GpuFacts, Learned, Lease
from flyted.plan.gpus.place import Granted, Occupancy, Wanted, place


def room(app_id: str, ask: Ask, gpus: GpuFacts, most: int) -> int:
    """Return for how many replicas of an app there are GPUs, up to ``most``; 0 while another start waits for some.

    ``gpus`` must have an inventory.
    """
    if gpus.inventory is None or gpus.asking:
        return 0
    peak = gpus.learned.get(app_id, Learned()).peak_bytes
    leases = gpus.leases
    for number in range(most):
        unit = f"another-{number}"
        found = place(Wanted(unit, ask, peak), gpus.inventory, Occupancy(leases))
        if not isinstance(found, Granted):
            return number
        uuids = tuple(device.uuid for device in found.devices)
        leases = (*leases, replace(_LEASE, unit=unit, app_id=app_id, devices=uuids, reserve_bytes=found.reserve_bytes))
    return most


_LEASE = Lease("", "", 0, (), 0.0)
