"""Units in memory, as the daemon's loop sees them through ``host.units``; the real ones judge in the machine tests."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any

from flyted.contract.names import Replica, replica_of
from flyted.host.kept_units import KeptUnits
from flyted.launch.words import ASLEEP
from flyted.plan.facts import UnitEnd
from flyted.plan.ingress.ports import INGRESS_UNIT, listeners
from flyted.plan.ingress.state import Listen
from flyted.plan.unit_index import UnitFact


class Systemd:
    """Units as the daemon's ``host.units.Units`` shows them. Each change is told to the subscriber a moment later."""

    def __init__(self) -> None:
        self.units: dict[str, UnitFact] = {}
        self.took_s: dict[str, float] = {"start_pair": 0.0, "start": 0.0, "stop": 0.0}
        self.starts = "done"
        """systemd's result of each start of a service."""
        self.mounts = "done"
        """systemd's result of each mount."""
        self.required: dict[str, str] = {}
        """The mount that a unit of a pair requires: it ends when no such unit is left (``StopWhenUnneeded=``)."""
        self.listed: list[list[str]] = []
        """The patterns of each list of units that it was asked for."""
        self.listens = listeners(Listen())
        """Where the ingress's socket unit listens."""
        self.began: Callable[[], None] = lambda: None
        """What hears that the ingress's process starts."""
        self.asked: Counter[str] = Counter()
        self.devices: dict[str, list[str]] = {}
        """The device nodes that are open, by unit."""
        self.at_once: Counter[Replica] = Counter()
        """The most calls that ever worked on one pair at the same time."""
        self.cpu: dict[str, float] = {}
        """The CPU time of services, in seconds."""
        self.changed_at: dict[str, float] = {}
        self._working: Counter[Replica] = Counter()
        self._heard: Callable[[str], None] = lambda _unit: None
        self._due: list[str] = []
        """Units whose change is not told yet."""
        self._kept = KeptUnits(("flyted-app-*", "flyted-freeze@*", INGRESS_UNIT), self.list, self._tell_all)
        self.look = self._kept.look
        self.set(INGRESS_UNIT, "active")

    def cpu_s(self, names: Iterable[str]) -> dict[str, float]:
        """As host.units."""
        return {name: self.cpu[name] for name in names if name in self.cpu}

    def since(self, name: str) -> float:
        """As host.units."""
        return self.changed_at.get(name, 0.0)

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
            mount = self.required.pop(name, "")
            if mount and mount not in self.required.values():
                self.gone(mount)

    def _tell(self, name: str) -> None:
        self._due.append(name)
        with contextlib.suppress(RuntimeError):  # before the loop runs nobody listens
            asyncio.get_running_loop().call_soon(self._tell_all)

    def _tell_all(self) -> None:
        due, self._due = self._due, []
        for name in due:
            if (unit := self.units.get(name)) is not None:
                self._kept.stated(name, unit.active, unit.sub)
            else:
                self._kept.gone(name)
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
        self.began()

    def begin(self, name: str) -> None:
        """As host.units."""
        self.set(name, "active")
        self.began()

    def listening(self, _name: str) -> tuple[str, ...]:
        """As host.units."""
        return self.listens

    async def start_socket(self, name: str, wanted: Mapping[str, Any]) -> str:
        """As host.units."""
        self.set(name, "active")
        self.listens = tuple(where for _kind, where in wanted["Listen"])
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

    async def start_pair(
        self,
        socket: str,
        _ours: Mapping[str, Any],
        service: str,
        _its: Mapping[str, Any],
        mounts: Mapping[str, Mapping[str, Any]],
    ) -> str:
        """As host.units."""
        await self._work("start_pair", socket)
        if mounts and self.mounts != "done":
            return "dependency"
        for mount in mounts:
            self.required[socket] = self.required[service] = mount
            self.set(mount, "active")
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

    async def start_beside(self, name: str) -> str:
        """As host.units."""
        return await self.start(name)

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
