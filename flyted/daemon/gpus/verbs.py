"""The verb behind ``flytectl gpu ls``, and what doctor says about GPUs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from flyted.contract.errors import FlytedError
from flyted.contract.quantity import human_bytes
from flyted.daemon.api.verbs import Call, Right, Verb
from flyted.daemon.gpus.leases import Gpus
from flyted.daemon.gpus.status import gpus_map
from flyted.plan.facts import Facts
from flyted.plan.gpus import lease as gpu_lease
from flyted.plan.gpus.facts import Inventory
from flyted.plan.gpus.match import impossible, inventory_text

Finding = tuple[str, bool | None, str, str]
"""The name, whether it is fine (``None``: a warning), what was found, and what to type."""


class GpuVerbs:
    """The handler of ``gpu.list``, and doctor's findings: both look, and change nothing."""

    def __init__(self, gpus: Gpus, facts: Callable[[], Coroutine[Any, Any, Facts]]) -> None:
        self._gpus = gpus
        self._facts = facts

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        return {"gpu.list": Verb(Right.READ, {}, self.listed)}

    async def listed(self, _call: Call) -> dict[str, Any]:
        """Return all GPUs, who holds them, and who waits. Raises :class:`HostFailure`."""
        inventory = await self._gpus.inventory()
        return gpus_map(inventory, await self._facts())

    async def findings(self) -> list[Finding]:
        """Return doctor's findings: a machine without a driver is fine as long as no app asks for a GPU."""
        facts = await self._facts()
        try:
            inventory = await self._gpus.inventory()
        except FlytedError as error:
            return [("gpu", False, error.message, error.hint)]
        return [_machine(inventory, facts), *_stuck(inventory, facts)]


def _machine(inventory: Inventory, facts: Facts) -> Finding:
    specs = [app.current.spec for app in facts.apps if app.current is not None and app.current.spec.gpu_count]
    for spec in specs:
        why = impossible(spec.gpu, inventory)
        if why:
            return "gpu", False, f"app {spec.key} {why}", "flytectl serve FILE --gpu any, or --cpu"
    if inventory.reason:
        return "gpu", True, f"none: {inventory.reason}", ""
    broken = [device for device in inventory.every() if device.error]
    if broken:
        return "gpu", False, inventory_text(broken), "sudo dmesg | grep -i xid; nvidia-smi --gpu-reset, or reboot"
    return "gpu", True, f"driver {inventory.driver}: {inventory_text(inventory.devices) or 'no GPU'}", ""


def _stuck(inventory: Inventory, facts: Facts) -> list[Finding]:
    found: list[Finding] = []
    for lease in facts.gpu.leases:
        left = gpu_lease.left(lease, inventory) if lease.ended_at is not None else 0
        if left:
            detail = f"{human_bytes(left)} of app {lease.app_id} are not released: its GPU stays reserved"
            found.append(("gpu memory", False, detail, "flytectl gpu ls; nvidia-smi --gpu-reset when nothing uses it"))
    return found
