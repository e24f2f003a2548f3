"""Grants a GPU lease at every start, also at one that systemd begins itself, and ends it when the unit has ended.

systemd asks for the credential ``gpu`` of a starting unit and waits. The answer is the lease: a pass of the loop
grants it when a device is free; it is recorded, and the device is opened to the unit. Nothing runs here while no start
waits and no lease changes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from flyted.base import tasks
from flyted.contract.errors import FlytedError
from flyted.contract.gpu import Ask
from flyted.contract.names import Replica
from flyted.daemon.effects import Effects
from flyted.daemon.execute import Execute
from flyted.daemon.gpus.inventory import GpuInventory
from flyted.daemon.gpus.queue import Waiting, WaitQueue
from flyted.daemon.gpus.reclaim import MemoryReclaim
from flyted.daemon.gpus.table import LeaseStore
from flyted.plan.actions import OpenDevices, ShowDriver
from flyted.plan.facts import Facts
from flyted.plan.gpus import driver
from flyted.plan.gpus import lease as gpu_lease
from flyted.plan.gpus.facts import GpuFacts, Lease
from flyted.plan.gpus.place import describe
from flyted.plan.gpus.queue import LOOK_S, GpuPlan, Grant

log = logging.getLogger(__name__)


class GpuLeases:
    """The leases, the starts that wait for one, and the GPUs that have failed: what the loop remembers of GPUs.

    ``changed()`` asks the loop for a pass.
    """

    def __init__(
        self, machine: Effects, inventory: GpuInventory, table: LeaseStore, execute: Execute,
        changed: Callable[[], None], wait_s: int,
    ) -> None:  # fmt: skip
        self._machine, self._inventory, self._table, self._execute = machine, inventory, table, execute
        self._changed, self._wait_s = changed, wait_s
        self._line = WaitQueue()
        self._return = MemoryReclaim(inventory, table, execute)
        self._refused: dict[str, str] = {}
        self._lost: dict[str, str] = {}
        self._loading: dict[str, float] = {}  # since when, on the event loop's clock
        self._watching: asyncio.Task[None] | None = None

    def resume(self) -> None:
        """Continue what an earlier daemon left: checking that the memory of ended leases is released."""
        for lease in self._table.leases:
            if lease.ended_at is not None:
                self._return.begin(lease)

    def facts(self) -> GpuFacts:
        """Return what is known without asking the helper."""
        inventory, error = self._inventory.newest()
        return GpuFacts(
            leases=self._table.leases,
            learned=self._table.learned_all,
            asking=tuple(waiting.asking for waiting in self._line.waiting),
            refused=dict(self._refused),
            lost=dict(self._lost),
            loading=frozenset(self._loading),
            returning=self._return.units,
            inventory=inventory,
            error=error,
        )

    @property
    def asked(self) -> bool:
        """True if a start waits for its answer."""
        return bool(self._line.waiting)

    async def lease(self, replica: Replica, ask: Ask) -> bytes:
        """Return the credential of a starting unit: a lease, which a pass of the loop grants, or why there is none.

        Waits for as long as the settings allow. A unit that was refused is refused again until that start has ended.
        """
        unit = replica.service
        if unit in self._refused:
            return gpu_lease.refused(self._refused[unit])
        if self._line.full:
            return self._refuse(unit, f"needs {ask}; {len(self._line)} others already wait for a GPU")
        before = self._table.of(unit)
        if before is not None and before.ended_at is None:
            self._over(before)  # it starts, so what ran before has ended
        waiting = Waiting(replica, ask, asyncio.get_running_loop().create_future())
        self._line.join(waiting)
        self._inventory.want()
        try:
            async with asyncio.timeout(self._wait_s):
                return await waiting.answer
        except TimeoutError:
            return self._refuse(unit, f"no GPU within {self._wait_s} s: {waiting.why}")
        finally:
            self._line.leave(waiting)

    def carry_out(self, facts: Facts, plan: GpuPlan) -> dict[str, str]:
        """Carry out what a pass has decided, and answer the starts; return the news of units, for people.

        What came after the facts of this pass goes first: a lease that is newer, a start that does not wait any more.
        """
        self._learn(facts, plan)
        still = self._line.still(facts.gpu.asking)
        for unit in still.intersection(plan.cancelled):
            self._line.answer(unit, gpu_lease.refused("its start was cancelled"))
        for unit in still & plan.refusals.keys():
            self._line.answer(unit, self._refuse(unit, plan.refusals[unit]))
        news = {unit: f"its GPU is lost: {why}" for unit, why in facts.gpu.lost.items()}
        for grant in plan.grants:
            news |= self._grant(grant) if grant.lease.unit in still else {}
        for unit, why in plan.waits.items():
            news |= self._let_wait(unit, why)
        self._watch()
        return news

    def _learn(self, facts: Facts, plan: GpuPlan) -> None:
        if facts.gpu.learned:  # else all apps would be gone through for nothing
            self._table.forget_all_but({app.key.id for app in facts.apps})
        for lease in plan.over:
            if self._table.of(lease.unit) is lease:
                self._over(lease)
        for unit in plan.ready:
            self._ready(unit)
        for unit in plan.settled:
            self._refused.pop(unit, None)
            self._lost.pop(unit, None)
        self._inventory.used(facts.gpu)
        if plan.look:
            self._inventory.want()

    def _grant(self, grant: Grant) -> dict[str, str]:
        unit = grant.lease.unit
        try:
            self._table.hold(dataclasses.replace(grant.lease, since=self._machine.clock.time()))
        except FlytedError as error:
            asyncio.get_running_loop().call_later(LOOK_S, self._changed)
            return self._let_wait(unit, error.message)
        try:
            if grant.driver is not None:
                self._execute.at_once(ShowDriver(tuple(driver.links(grant.driver).items())))
            self._execute.at_once(OpenDevices(unit, grant.nodes))
        except FlytedError as error:
            self._table.drop(unit)
            self._line.answer(unit, self._refuse(unit, f"the GPU cannot be given: {error.message}"))
            return {}
        self._loading[unit] = _now()
        variables = driver.variables(grant.driver) if grant.driver is not None else {}
        self._line.answer(unit, gpu_lease.granted(grant.devices, variables))
        said = "; ".join(describe(device) for device in grant.devices)
        log.info("%s was granted %s", unit, said)
        self._changed()  # if the start was cancelled this moment, the next look finds out
        return {unit: f"GPU granted: {said}"}

    def _let_wait(self, unit: str, why: str) -> dict[str, str]:
        waiting = self._line.find(unit)
        if waiting is None or why == waiting.why:
            return {}
        waiting.why = why
        log.info("%s waits: %s", unit, why)
        return {unit: f"waiting for a GPU: {why}"}

    def _refuse(self, unit: str, why: str) -> bytes:
        log.warning("%s gets no GPU: %s", unit, why)
        self._refused[unit] = why
        return gpu_lease.refused(why)

    def _over(self, lease: Lease) -> None:
        if self._loading.pop(lease.unit, None) is not None:
            self._table.forget(lease.app_id)  # it did not start: perhaps it needs more than was thought
        over = lease.over(self._machine.clock.time())
        self._table.end(over)
        self._return.begin(over)

    def _ready(self, unit: str) -> None:
        lease = self._table.of(unit)
        began = self._loading.pop(unit, None)
        if lease is not None and began is not None:
            self._table.learn_load(lease.app_id, _now() - began)
            self._beside(lambda: self._inventory.measure(unit))

    def _watch(self) -> None:
        """Listen for errors of GPUs while a unit holds a lease, and only then."""
        if self._table.running and self._watching is None:
            self._watching = tasks.begin(self._machine.gpus.watch(self._xid))
        elif not self._table.running and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _xid(self, uuid: str, number: int) -> None:
        if number:
            log.warning("%s reports XID %d%s", uuid, number, " (fatal)" if number in gpu_lease.DEADLY else "")
        if number in gpu_lease.DEADLY or not number:  # others are the program's own fault
            self._beside(lambda: self._after_xid(uuid, number))

    async def _after_xid(self, uuid: str, number: int) -> None:
        inventory = await self._inventory.look()
        lost = gpu_lease.lost_by(self._table.running, uuid, number, inventory)
        if lost:
            self._lost |= lost
            self._changed()

    def _beside(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def run() -> None:
            try:
                await work()
            except FlytedError as error:
                log.error("%s", error.message)  # noqa: TRY400

        tasks.begin(run())


def _now() -> float:
    return asyncio.get_running_loop().time()
