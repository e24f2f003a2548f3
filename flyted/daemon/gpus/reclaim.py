"""Checks with NVML that the GPU memory of an app that has ended was released; kills processes that still hold it."""

from __future__ import annotations

import asyncio
import logging

from flyted.base import tasks
from flyted.contract.errors import FlytedError
from flyted.contract.quantity import human_bytes
from flyted.daemon.execute import Execute
from flyted.daemon.gpus.inventory import GpuInventory
from flyted.daemon.gpus.table import LeaseStore
from flyted.plan.actions import KillUnit
from flyted.plan.gpus import lease as gpu_lease
from flyted.plan.gpus.facts import Lease

log = logging.getLogger(__name__)

LOOKS_S = (0.0, 0.1, 0.2, 0.4, 0.8, 1.5, 2.0)
"""Seconds before each look; run through before the kill, and again after it. Large contexts take a driver a second."""


class MemoryReclaim:
    """Runs one task for each lease that is over. A task that gives up leaves the GPU reserved.

    Later looks at the GPUs, for starts that wait for one, may still find that the memory has come back.
    """

    def __init__(self, inventory: GpuInventory, table: LeaseStore, execute: Execute) -> None:
        self._inventory = inventory
        self._table = table
        self._execute = execute
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def units(self) -> frozenset[str]:
        """The units whose memory is waited for."""
        return frozenset(self._tasks)

    def begin(self, lease: Lease) -> None:
        """Begin the proof for a lease that is over, beside whatever else happens; it replaces an earlier one."""
        before = self._tasks.pop(lease.unit, None)
        if before is not None:
            before.cancel()
        task = tasks.begin(self._prove(lease))
        self._tasks[lease.unit] = task
        task.add_done_callback(lambda done: self._forget(lease.unit, done))

    def _forget(self, unit: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(unit) is task:
            del self._tasks[unit]

    async def _prove(self, lease: Lease) -> None:
        if await self._came_back(lease):
            return
        self._execute.at_once(KillUnit(lease.unit, "has ended but still holds GPU memory"))
        if not await self._came_back(lease):
            log.error("the GPU memory of %s was not released, so its GPU stays reserved: flytectl gpu ls", lease.unit)

    async def _came_back(self, lease: Lease) -> bool:
        for pause in LOOKS_S:
            await asyncio.sleep(pause)
            if self._table.of(lease.unit) is not lease:
                return True  # another look saw it come back
            try:
                inventory = await self._inventory.look()  # drops the lease if its memory has come back
            except FlytedError as error:
                log.warning("%s", error.message)
                continue
            if self._table.of(lease.unit) is not lease:
                return True
            log.info("%s of %s is not released yet", human_bytes(gpu_lease.left(lease, inventory)), lease.unit)
        return False
