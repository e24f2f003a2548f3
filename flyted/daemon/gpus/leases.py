"""GPUs: a lease at every start, also at one that systemd does by itself; taken back when the unit has ended.

systemd asks for the credential ``gpu`` of a starting unit and waits. The answer is the lease: it comes when a device
is free, the lease is recorded, and the device is opened to the unit. Nothing runs here while no start waits and no
lease changes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from flyted.contract.errors import FlytedError, HostFailure, NoGpu
from flyted.contract.gpu import Ask
from flyted.contract.names import AppKey, Replica, replica_of, shown
from flyted.daemon.gpus.queue import Line, Waiting
from flyted.daemon.gpus.reclaim import GpuReturn
from flyted.daemon.gpus.table import GpuTable
from flyted.daemon.loop import Loop
from flyted.host.gpu import Gpu
from flyted.plan.actions import Sleep
from flyted.plan.facts import Facts
from flyted.plan.gpus import lease as gpu_lease
from flyted.plan.gpus.facts import Device, GpuFacts, Inventory, Lease
from flyted.plan.gpus.match import grantable, impossible
from flyted.plan.gpus.place import Granted, Never, Table, Wait, Wanted, describe, place

if TYPE_CHECKING:
    from flyted.host.units import Units

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Seconds between looks while a start waits: nothing tells that a busy app is idle or memory has come back late."""

Tell = Callable[[str], Awaitable[None]]
Doing = Callable[[Sleep], Awaitable[None]]


class Gpus:
    """The leases, the queue for them, and what is done when a GPU fails."""

    def __init__(self, gpu: Gpu, units: Units, table: GpuTable, loop: Loop, do: Doing, wait_s: int) -> None:
        self._gpu, self._units, self._table, self._loop, self._do = gpu, units, table, loop, do
        self._wait_s = wait_s
        self._line = Line()
        self._poked = asyncio.Event()
        self._return = GpuReturn(gpu, units, table, self._poked.set)
        self._refused: dict[str, str] = {}  # why, by unit: starts that got no lease and have not ended yet
        self._loading: dict[str, float] = {}  # units with a lease that are not ready yet, and since when (monotonic)
        self._watching: asyncio.Task[None] | None = None
        self._evicting: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.tell: dict[str, Tell] = {}
        loop.on_pass = self.observe
        loop.gpu_facts = self.facts

    async def inventory(self) -> Inventory:
        """Return all GPUs as they are now; learn what that shows of apps. Raises :class:`HostFailure`."""
        inventory = await self._gpu.inventory()
        self._table.learn_peaks(inventory)
        self._table.drop_returned(inventory)
        return inventory

    def facts(self) -> GpuFacts:
        """Return what is known without asking the helper."""
        waits = {each.unit: each.why for each in self._line.waiting}
        return GpuFacts(self._table.leases, self._table.learned_all, waits)

    async def check(self, app: AppKey, ask: Ask) -> None:
        """Raise :class:`NoGpu`, with the arithmetic, when this machine can never give what an app asks for.

        Raises :class:`HostFailure` when the helper does not answer.
        """
        why = impossible(ask, await self.inventory()) if ask.count else ""
        if why:
            raise NoGpu(f"app '{app}' {why}", hint="flytectl serve --gpu any, or --cpu to run it without a GPU")

    async def need_any(self, what: str) -> None:
        """Raise :class:`NoGpu`, in the name of ``what`` needs a GPU, when this machine has none.

        Raises :class:`HostFailure` when the helper does not answer.
        """
        why = impossible(Ask(1), await self.inventory())
        if why:
            raise NoGpu(
                f"not supported on this machine: {shown(what)} {why}",
                hint="serve it on a machine with a GPU, or with an environment of yours: flytectl serve --python-env",
            )

    async def lease(self, replica: Replica, ask: Ask) -> bytes:
        """Return the credential of a starting unit: a lease, or why there is none.

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
        waiting = Waiting(replica, ask, time.time(), asyncio.get_running_loop().create_future())
        self._line.join(waiting)
        self._poked.set()
        try:
            async with asyncio.timeout(self._wait_s):
                return await waiting.answer
        except TimeoutError:
            return self._refuse(unit, f"no GPU within {self._wait_s} s: {waiting.why}")
        finally:
            self._line.leave(waiting)

    async def run(self) -> None:
        """Serve the queue for ever; sleep while it is empty."""
        for lease in self._table.leases:
            if lease.ended_at is not None:
                self._return.begin(lease)
        while True:
            try:
                async with asyncio.timeout(LOOK_S if self._line.waiting else None):
                    await self._poked.wait()
            except TimeoutError:
                pass
            self._poked.clear()
            if self._line.waiting:
                try:
                    await self._serve_line()
                except FlytedError as error:
                    log.error("%s", error.message)  # noqa: TRY400
                    for waiting in self._line.waiting:
                        waiting.why = error.message

    def observe(self, facts: Facts) -> None:
        """Learn from a look of the loop which leases are over, which apps are ready, which refused starts ended."""
        self._watch()
        self._table.forget_all_but({app.key.id for app in facts.apps})
        if not (self._table.running or self._refused):
            return
        active = {name: fact.active for name, fact in facts.units.items()}
        gone = gpu_lease.ended(self._table.running, active)
        if gone or self._refused:  # the loop looked a moment ago: a grant or a refusal may be newer than that
            units = [*(lease.unit for lease in gone), *self._refused]
            active |= dict.fromkeys(units, "") | {fact.name: fact.active for fact in self._units.list(units)}
        for lease in gpu_lease.ended(gone, active):
            self._over(lease)
        for unit in [u for u in self._loading if active.get(u) == "active"]:
            self._ready(unit)
        for unit in [u for u in self._refused if active[u] not in ("activating", "deactivating")]:
            self._given_up(unit, facts)

    async def before_sleep(self, replica: Replica) -> None:
        """Look at the GPUs: it is the last chance to see what an app has used."""
        lease = self._table.of(replica.service)
        if lease is not None and lease.ended_at is None:
            try:
                await self.inventory()
            except HostFailure as error:
                log.warning("%s", error.message)

    async def _serve_line(self) -> None:
        inventory = await self.inventory()
        facts = await self._loop.facts()
        ready = self._loop.idle(facts)
        claimed: set[str] = set()
        for waiting in self._line.waiting:
            fact = facts.units.get(waiting.unit)
            if fact is None or fact.active != "activating":
                self._line.dismiss(waiting.unit, gpu_lease.refused("its start was cancelled"))
                continue
            table = Table(self._table.leases, self._evictable(waiting, ready))
            wanted = Wanted(waiting.unit, waiting.ask, self._table.learned(waiting.replica.app_id).peak_bytes)
            decision = place(wanted, inventory, table)
            if isinstance(decision, Granted) and claimed & {d.uuid for d in decision.devices}:
                suitable = frozenset(device.uuid for device in grantable(waiting.ask, inventory))
                decision = Wait(f"needs {waiting.ask}; others already wait for the same GPUs", claims=suitable)
            match decision:
                case Granted(devices, reserve):
                    self._grant(waiting, inventory, devices, reserve)
                case Never(why):
                    waiting.answer.set_result(self._refuse(waiting.unit, why))
                case Wait(why, evict, claims):
                    self._let_wait(waiting, why, () if claimed & claims else evict)
                    claimed |= claims

    def _evictable(self, waiting: Waiting, idle: Mapping[Replica, float]) -> dict[str, float]:
        """Return how good it is to put each idle holder to sleep, by unit; see :func:`gpu_lease.worth`.

        An app's own earlier revision may go as soon as it is idle.
        """
        found = {}
        for replica, seconds in idle.items():
            least = 0.0 if replica.app_id == waiting.replica.app_id else gpu_lease.MIN_IDLE_S
            value = gpu_lease.worth(seconds, self._table.learned(replica.app_id), least)
            if value is not None:
                found[replica.service] = value
        return found

    def _grant(self, waiting: Waiting, inventory: Inventory, devices: tuple[Device, ...], reserve: int) -> None:
        replica, unit = waiting.replica, waiting.unit
        lease = gpu_lease.lease_of(unit, replica.app_id, replica.revision, devices, reserve, time.time())
        self._table.hold(lease)
        try:
            self._units.allow_devices(unit, gpu_lease.nodes(devices, inventory))
        except HostFailure as error:
            self._table.drop(unit)
            waiting.answer.set_result(self._refuse(unit, f"systemd cannot open the GPU: {error.message}"))
            return
        self._loading[unit] = time.monotonic()
        waiting.answer.set_result(gpu_lease.granted(devices))
        said = "; ".join(describe(device) for device in devices)
        log.info("%s was granted %s", unit, said)
        self._say(unit, f"GPU granted: {said}")
        self._loop.poke()  # if the start was called off this moment, the next look finds out

    def _let_wait(self, waiting: Waiting, why: str, evict: tuple[str, ...]) -> None:
        if why != waiting.why:
            waiting.why = why
            log.info("%s waits: %s", waiting.unit, why)
            self._say(waiting.unit, f"waiting for a GPU: {why}")
        for unit in evict:
            replica = replica_of(unit)  # not by its lease, whose record may be lost
            if replica is not None and unit not in self._evicting:
                self._evicting.add(unit)
                self._beside(self._evict(replica, waiting))

    async def _evict(self, replica: Replica, waiting: Waiting) -> None:
        async def if_still_idle() -> None:
            facts = await self._loop.facts()
            if replica in self._loop.idle(dataclasses.replace(facts, busy=facts.busy - {replica})):
                log.info("stopping app %s, whose GPU goes to %s", replica.app_id, waiting.unit)
                await self._do(Sleep(replica))

        try:
            await self._loop.exclusively(replica, if_still_idle)
        finally:
            self._evicting.discard(replica.service)

    def _refuse(self, unit: str, why: str) -> bytes:
        log.warning("%s gets no GPU: %s", unit, why)
        self._refused[unit] = why
        return gpu_lease.refused(why)

    def _given_up(self, unit: str, facts: Facts) -> None:
        """Give up the pair of a start that got no lease and has ended: it is tried again later."""
        why = self._refused.pop(unit)
        for app in facts.apps:
            for revision in app.revisions:
                replica = Replica(app.key.id, revision.number)
                if replica.service == unit:
                    self._beside(self._loop.give_up(replica, f"no GPU: {why}"))

    def _over(self, lease: Lease) -> None:
        if self._loading.pop(lease.unit, None) is not None:
            self._table.forget(lease.app_id)  # it did not come up: perhaps it needs more than was thought
        over = lease.over(time.time())
        self._table.end(over)
        self._return.begin(over)
        self._watch()

    def _ready(self, unit: str) -> None:
        lease = self._table.of(unit)
        took = time.monotonic() - self._loading.pop(unit)
        if lease is not None:
            self._table.learn_load(lease.app_id, took)
            self._beside(self._look())

    async def _look(self) -> None:
        await self.inventory()

    def _watch(self) -> None:
        """Listen for errors of GPUs while a unit holds a lease, and only then."""
        if self._table.running and self._watching is None:
            self._watching = asyncio.create_task(self._gpu.watch(self._xid))
        elif not self._table.running and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _xid(self, uuid: str, number: int) -> None:
        if number:
            log.warning("%s reports XID %d%s", uuid, number, " (fatal)" if number in gpu_lease.DEADLY else "")
        if number in gpu_lease.DEADLY or not number:  # others are the program's own fault
            self._beside(self._after_xid(uuid, number))

    async def _after_xid(self, uuid: str, number: int) -> None:
        inventory = await self.inventory()
        for lease in self._table.running:
            why = gpu_lease.lost(lease, inventory)
            if not why and number in gpu_lease.DEADLY and gpu_lease.hit(lease, uuid, inventory):
                why = uuid
            if why:
                why += f" (XID {number})" if number else ""
                log.error("%s has lost its GPU: %s", lease.unit, why)
                self._say(lease.unit, f"its GPU is lost: {why}")
                self._units.kill(lease.unit)
                self._beside(self._loop.give_up(Replica(lease.app_id, lease.revision), f"its GPU is lost: {why}"))

    def _say(self, unit: str, text: str) -> None:
        if unit in self.tell:
            self._beside(self.tell[unit](text))

    def _beside(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            try:
                await work
            except FlytedError as error:
                log.error("%s", error.message)  # noqa: TRY400
            self._poked.set()

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
