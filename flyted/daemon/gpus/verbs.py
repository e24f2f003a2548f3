"""Handles the verb of ``flytectl gpu ls``, and doctor's checks of GPUs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from flyted.contract.answers.gpus import GpuList
from flyted.contract.answers.machine import Check
from flyted.contract.errors import FlytedError
from flyted.contract.quantity import human_bytes
from flyted.daemon.api.verbs import Call, Right, Verb
from flyted.daemon.gpus.inventory import GpuInventory
from flyted.daemon.gpus.status import gpu_list
from flyted.plan.facts import Facts
from flyted.plan.gpus import driver
from flyted.plan.gpus import lease as gpu_lease
from flyted.plan.gpus.facts import Inventory
from flyted.plan.gpus.match import impossible, inventory_text


class GpuVerbs:
    """The handler of ``gpu.list``, and doctor's findings. Both change nothing."""

    def __init__(self, inventory: GpuInventory, facts: Callable[[], Coroutine[Any, Any, Facts]]) -> None:
        self._inventory = inventory
        self._facts = facts

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        return {"gpu.list": Verb(Right.READ, {}, self.listed)}

    async def listed(self, _call: Call) -> GpuList:
        """Return all GPUs, their holders, and the waiting starts. Raises :class:`HostFailure`."""
        inventory = await self._inventory.look()
        return gpu_list(inventory, await self._facts())

    async def findings(self) -> list[Check]:
        """Return doctor's findings: a machine without a driver is fine as long as no app asks for a GPU."""
        facts = await self._facts()
        try:
            inventory = await self._inventory.look()
        except FlytedError as error:
            return [Check("gpu", ok=False, detail=error.message, hint=error.hint)]
        return [_machine(inventory, facts), *_stuck(inventory, facts), *_driver(inventory, facts)]


def _machine(inventory: Inventory, facts: Facts) -> Check:
    specs = [app.current.spec for app in facts.apps if app.current is not None and app.current.spec.gpu_count]
    for spec in specs:
        why = impossible(spec.gpu, inventory)
        if why:
            return _wrong(f"app {spec.key} {why}", "flytectl serve FILE --gpu any, or --cpu")
    if inventory.reason:
        return Check("gpu", ok=True, detail=f"none: {inventory.reason}")
    broken = [device for device in inventory.every() if device.error]
    if broken:
        return _wrong(inventory_text(broken), "sudo dmesg | grep -i xid; nvidia-smi --gpu-reset, or reboot")
    return Check("gpu", ok=True, detail=f"driver {inventory.driver}: {inventory_text(inventory.devices) or 'no GPU'}")


def _driver(inventory: Inventory, facts: Facts) -> list[Check]:
    """Return what is found of the driver's files, unless nothing would use them."""
    rooted = any(a.current is not None and a.current.image.root and a.current.spec.gpu_count for a in facts.apps)
    files = inventory.files
    if not (inventory.devices or rooted or files.source or files.problems):
        return []
    return [Check("gpu driver", ok=ok, detail=detail, hint=hint) for ok, detail, hint in driver.findings(files)]


def _wrong(detail: str, hint: str, name: str = "gpu") -> Check:
    return Check(name, ok=False, detail=detail, hint=hint)


def _stuck(inventory: Inventory, facts: Facts) -> list[Check]:
    found: list[Check] = []
    for lease in facts.gpu.leases:
        left = gpu_lease.left(lease, inventory) if lease.ended_at is not None else 0
        if left:
            detail = f"{human_bytes(left)} of app {lease.app_id} are not released: its GPU stays reserved"
            found.append(_wrong(detail, "flytectl gpu ls; nvidia-smi --gpu-reset when nothing uses it", "gpu memory"))
    return found
