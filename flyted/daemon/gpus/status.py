"""Makes :class:`GpuList`, the answer about GPUs, from the inventory and the leases. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from flyted.contract.answers.gpus import GpuList, GpuStatus, GpuWait, LeaseStatus, ProcessStatus
from flyted.contract.names import AppKey
from flyted.plan.facts import Facts
from flyted.plan.gpus import lease as gpu_lease
from flyted.plan.gpus.facts import Device, Inventory, Lease


def gpu_list(inventory: Inventory, facts: Facts) -> GpuList:
    """Return the machine's GPUs, their holders, and the waiting starts."""
    names = {app.key.id: app.key for app in facts.apps}
    return GpuList(
        driver=inventory.driver,
        cuda=inventory.cuda,
        reason=inventory.reason,
        gpus=tuple(_device(device, inventory, facts, names) for device in inventory.devices),
        waiting=tuple(GpuWait(unit, why) for unit, why in facts.gpu.waits.items()),
    )


def _device(device: Device, inventory: Inventory, facts: Facts, names: Mapping[str, AppKey]) -> GpuStatus:
    leases = [lease for lease in facts.gpu.leases if device.uuid in lease.devices]
    return GpuStatus(
        uuid=device.uuid, name=device.name, minor=device.minor, state=_state(device, leases),
        error=device.error, memory_bytes=device.total_bytes, used_bytes=device.used_bytes,
        free_bytes=device.free_bytes,
        holders=tuple(_holder(device, lease, inventory, names) for lease in leases),
        processes=tuple(ProcessStatus(p.pid, p.name, p.unit, p.used_bytes) for p in device.processes),
        partitions=tuple(_device(part, inventory, facts, names) for part in device.partitions),
    )  # fmt: skip


def _state(device: Device, leases: list[Lease]) -> str:
    if device.error:
        return "broken"
    if device.split:
        return "split"
    if any(lease.ended_at is None for lease in leases):
        return "held"
    return "returning" if leases else "free"


def _holder(device: Device, lease: Lease, inventory: Inventory, names: Mapping[str, AppKey]) -> LeaseStatus:
    key = names.get(lease.app_id)
    over = lease.ended_at is not None
    left = gpu_lease.left(lease, inventory) if over else gpu_lease.used(lease.unit, [device.uuid], inventory)
    return LeaseStatus(
        app=key.name if key else lease.app_id, project=key.project if key else "",
        domain=key.domain if key else "", revision=lease.revision, replica=lease.replica, since=lease.since,
        used_bytes=left,
        reserved_bytes=lease.reserve_bytes or device.total_bytes, ended_at=lease.ended_at,
    )  # fmt: skip
