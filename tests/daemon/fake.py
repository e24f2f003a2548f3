"""A machine in memory, with a clock of its own: the daemon's real loop, actions and store run on it.

systemd and HAProxy are stood in for by what the loop sees of them; the real ones judge in the machine tests. The
clock is the event loop's: while nobody has anything to do it jumps to the next timer, so an hour takes milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import selectors
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from flyted.contract.errors import HostFailure
from flyted.contract.names import Replica, replica_of
from flyted.daemon.config import Config
from flyted.daemon.effects import Effects
from flyted.daemon.execute import Execute
from flyted.daemon.explain import Explain
from flyted.daemon.gpus.inventory import GpuInventory
from flyted.daemon.gpus.leases import GpuLeases
from flyted.daemon.gpus.table import GpuTable
from flyted.daemon.look import Look
from flyted.daemon.loop import Loop
from flyted.host.gpu_records import GpuRecords
from flyted.host.ingress import Applied
from flyted.host.journal import Entry
from flyted.host.kept_units import KeptUnits
from flyted.host.store import Store
from flyted.launch.words import ASLEEP
from flyted.plan.facts import ImageFact, UnitEnd, UnitFact
from flyted.plan.gpus.facts import Inventory
from flyted.plan.idle import Traffic
from flyted.plan.ingress.ports import INGRESS_UNIT, listeners
from flyted.plan.ingress.state import IngressState, Listen
from flyted.plan.units import Layout
from tests.values import DOMAIN, spec

T = TypeVar("T")
REAL_WAIT_S = 5.0
"""For threads and child processes, which know no other clock."""


class _Skipping(selectors.DefaultSelector):
    """Waits for nothing that only time brings: it moves the clock instead."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; else the time goes on to the next timer."""
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready or (super().select(REAL_WAIT_S) if timeout is None else [])
        self.now += timeout
        return []


class EventLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is its own."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)
        self.unhandled: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _loop, context: self.unhandled.append(context))

    def time(self) -> float:
        """Seconds of its clock."""
        return self._skipping.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs ``main`` to its end on such a loop; no task of it may have died unheard."""
    loop = EventLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        assert loop.unhandled == []


class Systemd:
    """Units as the daemon's ``host.units.Units`` shows them. Each change is told to the subscriber a moment later."""

    def __init__(self) -> None:
        self.units: dict[str, UnitFact] = {}
        self.took_s: dict[str, float] = {"start_pair": 0.0, "start": 0.0, "stop": 0.0}
        self.starts = "done"
        """systemd's result of each start of a service."""
        self.listed: list[list[str]] = []
        """The patterns of each list of units that it was asked for."""
        self.asked: Counter[str] = Counter()
        self.devices: dict[str, list[str]] = {}
        """The device nodes that are open, by unit."""
        self.at_once: Counter[Replica] = Counter()
        """The most calls that ever worked on one pair at the same time."""
        self._working: Counter[Replica] = Counter()
        self._heard: Callable[[str], None] = lambda _unit: None
        self._due: list[str] = []
        """Units whose change is not told yet."""
        self._kept = KeptUnits(("flyted-app-*", INGRESS_UNIT), self.list, self._tell_all)
        self.look = self._kept.look
        self.set(INGRESS_UNIT, "active")

    def subscribe(self, heard: Callable[[str], None]) -> None:
        """As host.units."""
        self._heard = heard

    def set(self, name: str, active: str, status: str = "") -> None:
        """A unit comes to be, or changes."""
        self.units[name] = UnitFact(name, "loaded", active, "", status)
        self._tell(name)

    def gone(self, name: str) -> None:
        """A unit ends and is collected."""
        if self.units.pop(name, None) is not None:
            self._tell(name)

    def _tell(self, name: str) -> None:
        self._due.append(name)
        with contextlib.suppress(RuntimeError):  # before the loop runs nobody listens
            asyncio.get_running_loop().call_soon(self._tell_all)

    def _tell_all(self) -> None:
        due, self._due = self._due, []
        for name in due:
            self._kept.changed(name)
            self._heard(name)

    def list(self, patterns: Iterable[str] = ("flyted-*",)) -> list[UnitFact]:
        """As host.units."""
        self.asked["list"] += 1
        every = list(patterns)
        self.listed.append(every)
        return [fact for name, fact in self.units.items() if any(fnmatch.fnmatchcase(name, each) for each in every)]

    def status(self, name: str) -> str:
        """As host.units."""
        return self.units[name].status if name in self.units else ""

    async def statuses(self, name: str) -> AsyncGenerator[str]:
        """As host.units."""
        yield self.status(name)
        await asyncio.Event().wait()

    def rests(self, name: str) -> bool:
        """As host.units."""
        return name not in self.units or self.units[name].active in ("inactive", "failed")

    def kill(self, name: str) -> None:
        """As host.units."""
        self.gone(name)

    def allow_devices(self, name: str, nodes: Sequence[tuple[str, str]]) -> None:
        """As host.units."""
        self.devices[name] = [path for path, _rights in nodes]

    def restart(self, _name: str) -> None:
        """As host.units."""
        self.asked["restart"] += 1

    def begin(self, name: str) -> None:
        """As host.units."""
        self.set(name, "active")

    def listening(self, _name: str) -> tuple[str, ...]:
        """As host.units."""
        return listeners(Listen())

    async def start_socket(self, name: str, _wanted: Mapping[str, Any]) -> str:
        """As host.units."""
        self.set(name, "active")
        return "done"

    async def ask_main(
        self, name: str, _number: signal.Signals, _answered: Callable[[str], bool], _wait_s: float
    ) -> bool:
        """As host.units: the engine goes to sleep at once."""
        self.set(name, "active", ASLEEP)
        return True

    async def run_transient(self, *_words: Any, **_options: Any) -> UnitEnd:
        """As host.units: a unit that does nothing."""
        return UnitEnd("success", 0)

    async def start_pair(self, socket: str, _ours: Mapping[str, Any], service: str, _its: Mapping[str, Any]) -> str:
        """As host.units."""
        await self._work("start_pair", socket)
        self.set(socket, "active")
        self.set(service, "inactive")
        return "done"

    async def start(self, name: str) -> str:
        """As host.units."""
        self.set(name, "activating")
        await self._work("start", name)
        if name not in self.units:
            return "canceled"
        self.set(name, "active" if self.starts == "done" else "failed")
        return self.starts

    async def stop(self, name: str) -> str:
        """As host.units."""
        if name in self.units and self.units[name].active == "active":
            self.set(name, "deactivating")
        await self._work("stop", name)
        replica = replica_of(name)
        if replica is not None and name == replica.service and replica.socket in self.units:
            self.set(name, "inactive")  # the socket keeps it loaded
        else:
            self.gone(name)
        return "done"

    async def _work(self, what: str, name: str) -> None:
        replica = replica_of(name)
        self.asked[what] += 1
        if replica is None:
            return
        self._working[replica] += 1
        self.at_once[replica] = max(self.at_once[replica], self._working[replica])
        try:
            await asyncio.sleep(self.took_s[what])
        finally:
            self._working[replica] -= 1


class HAProxy:
    """What the daemon's ``host.ingress.Ingress`` shows of the ingress.

    ``took_s`` is for each :meth:`apply`, ``stats_s`` for each :meth:`stats`.
    """

    def __init__(self) -> None:
        self.traffic: dict[str, Traffic] = {}
        self.state: IngressState | None = None
        self.took_s = 0.0
        self.stats_s = 0.0
        self.asked: Counter[str] = Counter()
        self.counted: list[list[str]] = []
        """The servers of each question for counters."""

    def write(self, state: IngressState, _listen: Listen) -> None:
        """As host.ingress."""
        self.state = state

    def forget(self) -> None:
        """As host.ingress."""
        self.asked["forget"] += 1

    async def apply(self, state: IngressState, _listen: Listen) -> Applied:
        """As host.ingress."""
        self.asked["apply"] += 1
        await asyncio.sleep(self.took_s)
        self.state = state
        return Applied()

    async def stats(self, servers: Collection[str]) -> dict[str, Traffic]:
        """As host.ingress."""
        self.asked["stats"] += 1
        self.counted.append(sorted(servers))
        await asyncio.sleep(self.stats_s)
        return {name: traffic for name, traffic in self.traffic.items() if name in servers}


class Gpus:
    """What the daemon's ``host.gpu.Gpu`` shows of GPUs; ``took_s`` is for each look at them."""

    def __init__(self) -> None:
        self.now: Callable[[], Inventory] = lambda: Inventory(reason="no driver")
        self.took_s = 0.0
        self.asked = 0
        self.on_xid: Callable[[str, int], None] | None = None
        """What hears of errors; ``None`` while nobody listens."""

    async def inventory(self) -> Inventory:
        """As host.gpu."""
        self.asked += 1
        await asyncio.sleep(self.took_s)
        return self.now()

    async def watch(self, on_xid: Callable[[str, int], None]) -> None:
        """As host.gpu."""
        self.on_xid = on_xid
        try:
            await asyncio.Event().wait()
        finally:
            self.on_xid = None


class Journal:
    """What the daemon's ``host.journal`` shows of the journal, which is empty; ``took_s`` is for each :meth:`read`."""

    def __init__(self) -> None:
        self.took_s = 0.0
        self.error: HostFailure | None = None

    async def read(self, _units: Sequence[str], /, **_options: Any) -> list[Entry]:
        """As host.journal."""
        await asyncio.sleep(self.took_s)
        if self.error is not None:
            raise self.error
        return []

    async def follow(self, *_words: Any, **_options: Any) -> AsyncGenerator[Entry, None]:
        """As host.journal."""
        await asyncio.Event().wait()
        yield  # type: ignore[misc]


class Machine:
    """The parts, wired as in ``daemon/__main__.py``."""

    def __init__(self, folder: Path) -> None:
        self.systemd, self.haproxy, self.store = Systemd(), HAProxy(), Store(folder / "flyted.db")
        self.store.database._db.execute("PRAGMA synchronous = OFF")
        self.journal, self.gpu, store = Journal(), Gpus(), self.store
        effects = Effects(self.systemd, self.haproxy, self.journal, self.gpu, time.time)
        self.config = Config(DOMAIN, Listen(), (), 300, layout=Layout(run=str(folder)))
        self.look = Look(effects, store, self.config)
        self.explain = Explain(self.journal, store, 300, {})
        poked = asyncio.Event()
        self.table = GpuTable(GpuRecords(store.database))
        self.inventory = GpuInventory(self.gpu, self.table, poked.set)
        self.execute = Execute(effects, store, self.config, self.explain, self.inventory)
        self.leases = GpuLeases(effects, self.inventory, self.table, self.execute, poked.set, 60)
        self.loop = Loop(self.look, self.execute, self.explain, self.leases, DOMAIN, poked)
        self.systemd.subscribe(self.loop.unit_changed)

    def deployed(self, name: str, **changes: Any) -> Replica:
        """An app that serves, as the store has it after a deploy."""
        number = self.store.add_revision(spec(name, **changes), ImageFact("/i"), "f", 1.0)
        self.store.serve(name, number, 1.0)
        return Replica(name, number)

    def runs(self, replica: Replica, *, idle_s: float = 10_000.0) -> None:
        """Both units are up, and no request has come for so long."""
        self.systemd.set(replica.socket, "active")
        self.systemd.set(replica.service, "active")
        self.haproxy.traffic[replica.server] = Traffic(0, 0, 1, 1, idle_s, 0.0, "p", 1e6)

    def active(self, unit: str) -> str:
        """systemd's word for the unit; "" where it is not there."""
        return self.systemd.units[unit].active if unit in self.systemd.units else ""


def beside(machine: Machine, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs the loop beside a story."""

    async def main() -> None:
        loop = asyncio.create_task(machine.loop.run())
        try:
            await story()
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop

    run(main())
