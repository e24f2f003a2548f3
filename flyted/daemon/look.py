"""Observes the machine: the units of apps, the ingress's counters, and the wanted state. Changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flyted.contract.app import AppSpec
from flyted.contract.errors import IngressDown
from flyted.contract.names import Replica, frozen_by, replica_of
from flyted.daemon.config import Config
from flyted.daemon.effects import Effects
from flyted.host import memory
from flyted.host.store import Store
from flyted.plan.engines.sleep import sleepers
from flyted.plan.facts import Capacity, Facts
from flyted.plan.idle import Traffic
from flyted.plan.ingress.config import structure
from flyted.plan.ingress.ports import CALLS_SOCKET, INGRESS_SOCKET, INGRESS_UNIT
from flyted.plan.pairs import says_it_keeps
from flyted.plan.scaling import by_cpu, scales
from flyted.plan.unit_index import AT_REST, UnitFact, UnitIndex


@dataclass(frozen=True)
class Look:
    """Reads the machine: each pass of the loop, and each answer that describes apps, begins with :meth:`facts`.

    ``capacity`` and ``free_bytes``: as ``host/memory.py``.
    """

    machine: Effects
    store: Store
    config: Config
    capacity: Callable[[], Capacity] = memory.capacity
    free_bytes: Callable[[], int | None] = memory.free_bytes
    keeps: dict[str, bool] = field(default_factory=dict)  # services that run → whether they say so

    async def facts(self, app_id: str = "") -> Facts:
        """Return what the machine and the store say right now; with an app's id, the units of that app alone.

        There are counters of apps that do not rest, none while HAProxy is down or no app runs. Raises
        :class:`HostFailure` when systemd does not answer.
        """
        # at one moment, before HAProxy is waited for: with what is wanted as of afterwards, a revision that came up
        # meanwhile would have no units, and be re-created while it answers requests
        apps, units = self.store.apps(), self.machine.units.look()
        ingress = units[INGRESS_UNIT].active if INGRESS_UNIT in units else ""
        if app_id:
            units = units.of_app(app_id)
        services = [unit for unit in units.others.values() if _is_service(unit)]
        starting = {unit.name for unit in services if unit.active == "activating"}
        talking = (sleepers(apps) | starting) & units.others.keys()
        told = (dataclasses.replace(units[name], status=self.machine.units.status(name)) for name in talking)
        units = units.replaced(talking, told) if talking else units
        awake = [unit for unit in services if unit.active not in AT_REST]  # also those that start: requests wait
        traffic = await self._traffic(awake) if awake and ingress == "active" else {}
        scaled, capacity = self._scaled(awake), self.capacity()
        cpu_s = self.machine.units.cpu_s([name for name, spec in scaled if by_cpu(spec)])
        rules = await self._rules() if ingress == "active" and traffic is not None and not app_id else None
        return Facts(
            apps=apps,
            units=units,
            keeping=self._keeping(services) if not app_id else frozenset(),
            traffic=traffic or {},
            counted=traffic is not None,
            ingress=ingress,
            rules=rules,
            listen=self.config.listen,
            sites=self.config.sites(),
            challenges=self.config.challenges(),
            listening=self._listening(ingress, rules),
            cpu_s=cpu_s,
            cores=capacity.cpu_cores,
            memory_bytes=capacity.memory_bytes,
            free_bytes=self.free_bytes() if scaled else None,
            start_s=self.config.start_timeout_s,
            gpu_wait_s=self.config.gpu_wait_s,
            freeze=self.config.freeze,
        )

    def _keeping(self, services: Iterable[UnitFact]) -> frozenset[str]:
        """Return those of the services whose server never closes an idle connection: each is asked once per start."""
        names = {unit.name for unit in services if unit.active == "active"}
        for name in self.keeps.keys() - names:
            del self.keeps[name]
        for name in names - self.keeps.keys():
            self.keeps[name] = says_it_keeps(self.machine.units.status(name))
        return frozenset(name for name in names if self.keeps[name])

    def _scaled(self, awake: Iterable[UnitFact]) -> Sequence[tuple[str, AppSpec]]:
        """Return those of the services that run whose app gets replicas by its load, with that app's spec."""
        found = []
        for unit in awake:
            replica = replica_of(unit.name)
            app = self.store.get(replica.app_id) if replica is not None else None
            if app is not None and app.current is not None and scales(app.current.spec):
                found.append((unit.name, app.current.spec))
        return found

    def _listening(self, ingress: str, rules: str | None) -> tuple[str, ...] | None:
        """Return where PID 1 listens for the ingress; ``None`` if nothing suggests that this has to change."""
        other = ingress == "active" and rules not in (None, structure(self.config.listen))
        return self.machine.units.listening(INGRESS_SOCKET) if ingress == "activating" or other else None

    async def _traffic(self, services: Iterable[UnitFact]) -> Mapping[str, Traffic] | None:
        try:
            return await self.machine.ingress.stats(
                [r.server for s in services if (r := replica_of(s.name)) is not None]
            )
        except IngressDown:
            return None

    async def _rules(self) -> str | None:
        try:
            return await self.machine.ingress.rules()
        except IngressDown:
            return None

    def units(self) -> UnitIndex:
        """Return the units of all apps. Raises :class:`HostFailure` when systemd does not answer."""
        return self.machine.units.look()

    def has_units(self, app_id: str) -> bool:
        """Report whether systemd knows a unit of an app."""
        return app_id in self.machine.units.look().by_app

    def units_of(self, app_id: str) -> list[UnitFact]:
        """Return the units of an app. Raises :class:`HostFailure` when systemd does not answer."""
        return list(self.machine.units.look().of_app(app_id).values())

    def status(self, replica: Replica) -> str:
        """Return what a replica's service says of itself; "" when it says nothing, or is not there."""
        return self.machine.units.status(replica.service)

    def since(self, replica: Replica) -> float:
        """Return when a replica's service came into its state, in seconds since 1970; 0 if it is not there."""
        return self.machine.units.since(replica.service)

    def statuses(self, replica: Replica) -> AsyncGenerator[str]:
        """Yield what a replica's service says of itself, as of now and at each change; never end by itself."""
        return self.machine.units.statuses(replica.service)

    def ingress_unit(self) -> UnitFact | None:
        """Return the ingress's unit; ``None`` when systemd has not loaded it."""
        return next(iter(self.machine.units.list([INGRESS_UNIT])), None)

    async def calls(self) -> tuple[str, bool]:
        """Return the state of the socket for calls between apps, "" if there is none; and if the ingress has it."""
        state = next((unit.active for unit in self.machine.units.list([CALLS_SOCKET])), "")
        try:
            return state, await self.machine.ingress.answers_calls()
        except IngressDown:
            return state, False

    def heard(self, unit: str) -> bool:
        """Report whether the change of ``unit`` can change what is to be done; "" stands for any unit.

        After a change of the ingress's unit, HAProxy's state is read again.
        """
        if unit in ("", INGRESS_UNIT):
            self.machine.ingress.forget()
            return True
        return replica_of(unit) is not None or frozen_by(unit) is not None


def _is_service(unit: UnitFact) -> bool:
    return unit.name.endswith(".service") and replica_of(unit.name) is not None
