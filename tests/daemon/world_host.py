"""How the daemon reaches the machine in memory: in place of ``host.units`` and ``host.gpu``."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any

from flyted.contract.errors import HostFailure
from flyted.contract.names import Replica, replica_of
from flyted.host.journal import Entry
from flyted.launch.words import KEEPS
from flyted.plan.facts import UnitEnd
from flyted.plan.gpus.facts import Inventory
from flyted.plan.ingress.ports import INGRESS_SOCKET, INGRESS_UNIT
from flyted.plan.unit_index import UnitFact, UnitIndex
from tests.daemon.world import World
from tests.daemon.world_pairs import Pair
from tests.daemon.world_units import AT_REST


class Door:
    """How the daemon reaches the machine. ``dead``: its process was killed, and no call of it has an effect."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dead = False

    def _check(self, what: str = "systemd") -> None:
        if self.dead:
            raise asyncio.CancelledError
        if what == "systemd" and not self.world.bus:
            raise HostFailure("systemd does not answer")


class Systemd(Door):
    """As ``host.units.Units``."""

    looks = 0
    leaves = False

    def look(self) -> UnitIndex:
        """As host.units."""
        self._check()
        self.looks += 1
        return UnitIndex(self.world.units(("flyted-*",)))

    def list(self, patterns: Iterable[str] = ("flyted-*",)) -> list[UnitFact]:
        """As host.units."""
        self._check()
        return self.world.units(tuple(patterns))

    def status(self, name: str) -> str:
        """As host.units."""
        self._check()
        pair = self._pair(name)
        return f"serving; {KEEPS}" if pair is not None and pair.service == "active" else ""

    async def statuses(self, name: str) -> AsyncGenerator[str]:
        """As host.units."""
        yield self.status(name)
        await asyncio.Event().wait()

    def cpu_s(self, names: Iterable[str]) -> dict[str, float]:
        """As host.units."""
        self._check()
        pairs = {name: self._pair(name) for name in names}
        return {name: self.world.cpu_s(pair) for name, pair in pairs.items() if pair is not None}

    def since(self, name: str) -> float:
        """As host.units."""
        self._check()
        return 0.0 if self._pair(name) is None else 1.0

    def rests(self, name: str) -> bool:
        """As host.units."""
        self._check()
        if name in self.world.steps.names:
            return False
        pair = self._pair(name)
        return pair is None or pair.service in ("inactive", "failed")

    def kill(self, name: str) -> None:
        """As host.units."""
        pair = self._pair(name)
        if name in self.world.steps.names:
            self.world.steps.kill(name)
        elif pair is not None and self.world.bus and not self.dead:
            self.world.crash(pair)

    def restart(self, _name: str) -> None:
        """As host.units: the ingress alone is restarted."""
        self._check()
        self.world.restart_ingress()

    def listening(self, _name: str) -> tuple[str, ...]:
        """As host.units."""
        return self.world.listening

    async def start_socket(self, _name: str, wanted: Mapping[str, Any]) -> str:
        """As host.units."""
        await self._takes_a_job()
        self.world.listening = tuple(where for _kind, where in wanted["Listen"])
        return "done"

    def begin(self, name: str) -> None:
        """As host.units."""
        assert name == INGRESS_UNIT
        self.world.begin_ingress()

    async def ask_main(self, _name: str, _number: signal.Signals, *_words: Any) -> bool:
        """As host.units."""
        raise AssertionError("no app has an engine that sleeps")

    def allow_devices(self, name: str, nodes: Sequence[tuple[str, str]]) -> None:
        """As host.units."""
        self._check()
        pair = self._pair(name)
        if pair is None:
            raise HostFailure(f"no unit {name}")
        pair.opened = tuple(path for path, _access in nodes)

    async def start_pair(
        self, socket: str, _ours: Mapping[str, Any], _service: str, its: Mapping[str, Any], mounts: Mapping[str, Any]
    ) -> str:
        """As host.units."""
        replica = replica_of(socket)
        assert replica is not None
        assert all(name.startswith("run-flyted-roots-") for name in mounts)
        with self.world.alone(replica, "start_pair"):
            self.world.at("start_pair", replica)
            await self._takes_a_job()
            await self._evict(replica)
            self.world.make(replica, its)
            await self._takes_a_job()
        return "done"

    async def _evict(self, replica: Replica) -> None:
        """Stop what is left of a pair and has not ended: systemd makes no unit in place of one that is loaded."""
        left = self.world.pairs.get(replica)
        if left is not None and left.service not in AT_REST:
            self.world.stop_socket(left)
            await self.world.answered(self.world.stop(left))
            self._check()

    async def start(self, name: str) -> str:
        """As host.units."""
        self._check()
        pair = self._pair(name)
        if pair is None:
            raise HostFailure(f"Unit {name} not found.")
        with self.world.alone(pair.replica, "start"):
            job = self.world.start(pair)
            self.world.at("start", pair.replica)
            return await self.world.answered(job)

    async def start_beside(self, _name: str) -> str:
        """As host.units."""
        raise AssertionError("no app freezes")

    async def stop(self, name: str) -> str:
        """As host.units."""
        self._check()
        pair = self._pair(name)
        if name in (INGRESS_UNIT, INGRESS_SOCKET):
            await self._takes_a_job()
            self.world.stop_ingress(name)
        if pair is None:
            return "done"
        with self.world.alone(pair.replica, "stop"):
            if name == pair.replica.socket:
                self.world.at("stop of a socket", pair.replica)
                await self._takes_a_job()
                self.world.stop_socket(pair)
                return "done"
            if pair.socket == "active" and pair.service == "active":
                self.world.sleeps(pair)
            if pair.service == "active" and self.world.warm(pair.replica):
                self.world.fault(f"{pair.replica.server} is stopped while connections to it are kept")
            job = self.world.stop(pair)
            self.world.at("stop", pair.replica)
            return await self.world.answered(job)

    async def run_transient(
        self, name: str, wanted: Mapping[str, Any], /, timeout_s: float | None = None, *, clean: Sequence[str] = ()
    ) -> UnitEnd:
        """As host.units: a unit of a build, or one that removes something."""
        del timeout_s, clean
        await self._takes_a_job()
        try:
            await self.world.steps.ended(name)  # of an earlier flyted
            step = self.world.steps.begin(name, wanted, self.world.step)
            await asyncio.wait([step])
        except asyncio.CancelledError:
            if not self.dead and not self.leaves:
                await asyncio.shield(self.world.steps.stop(name, self.world.job_s))
            raise
        self._check()
        return step.result()

    def leave(self) -> None:
        """As host.units."""
        self.leaves = True

    async def _takes_a_job(self) -> None:
        self._check()
        await self.world.answered(self.world.job())
        self._check()

    def _pair(self, name: str) -> Pair | None:
        replica = replica_of(name)
        return self.world.pairs.get(replica) if replica else None


class Journal:
    """As ``host.journal``: it is empty."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def sync(self) -> None:
        """As host.journal."""

    async def read(self, _units: Sequence[str], /, **_options: Any) -> list[Entry]:
        """As host.journal."""
        self.world.at("journal")
        await asyncio.sleep(self.world.job_s)
        return []

    async def follow(self, *_words: Any, **_options: Any) -> AsyncGenerator[Entry, None]:
        """As host.journal."""
        await asyncio.Event().wait()
        yield  # type: ignore[misc]


class GpuHelper:
    """As ``host.gpu.Gpu``, over the machine's GPUs."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def inventory(self) -> Inventory:
        """As host.gpu."""
        self.world.at("GPUs")
        await asyncio.sleep(self.world.gpus.answer_s)
        return self.world.gpus.inventory()

    async def watch(self, on_xid: Callable[[str, int], None]) -> None:
        """As host.gpu."""
        self.world.gpus.on_xid.append(on_xid)
        try:
            await asyncio.Event().wait()
        finally:
            self.world.gpus.on_xid.remove(on_xid)

    def show(self, _links: Mapping[str, str]) -> None:
        """As host.gpu. No image in this world has a root of its own."""
        raise AssertionError
