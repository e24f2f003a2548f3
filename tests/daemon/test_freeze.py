"""How the daemon freezes an idle app: a request that came just before is seen afterwards."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flyted.contract.errors import IngressDown
from flyted.contract.names import Replica, freezer_of
from flyted.daemon.apps import idle
from flyted.daemon.apps.idle import Idle
from flyted.plan.actions import Freeze, Thaw
from flyted.plan.idle import Traffic
from tests.daemon.fake_systemd import Systemd
from tests.values import quiet

A1 = Replica("a", 1)
FREEZER = freezer_of(A1)


class Ingress:
    """HAProxy's counters, as they are after the freeze; ``None``: it does not answer."""

    def __init__(self, found: Traffic | None, units: Systemd) -> None:
        self.found, self.units = found, units

    async def end_kept(self, _server: str) -> None:
        """As host.ingress; a request over a kept connection would not thaw the app, so it is before the freeze."""
        self.units.asked["kept ended before the freeze"] += FREEZER not in self.units.units

    async def stats(self, servers: list[str]) -> dict[str, Traffic]:
        """As host.ingress."""
        if self.found is None:
            raise IngressDown("HAProxy does not answer")
        return dict.fromkeys(servers, self.found)


class Gpus:
    """No GPUs."""

    async def measure(self, _unit: str) -> None:
        """As daemon.gpus.inventory."""


def frozen_after(found: Traffic | None, *, starts: str = "done") -> Systemd:
    """The units after an app was to be frozen. ``starts``: systemd's result of the start of what freezes it."""

    async def work() -> Systemd:
        units = Systemd()
        units.set(A1.service, "active")
        units.starts = starts
        machine: Any = SimpleNamespace(units=units, ingress=Ingress(found, units))
        await Idle(machine, cast("Any", Gpus())).do(Freeze(A1, quiet(100)))
        return units

    return asyncio.run(work())


def test_an_idle_app_stays_frozen() -> None:
    """Nothing has come since."""
    units = frozen_after(quiet(100))
    assert (units.units[FREEZER].active, units.asked["kept ended before the freeze"]) == ("active", 1)


@pytest.mark.parametrize("found", [quiet(0, in_flight=1), quiet(0, started=2), None])
def test_a_request_that_has_come_since_thaws_it(found: Traffic | None) -> None:
    """One in flight, one that was answered already, and whatever HAProxy does not tell."""
    units = frozen_after(found)
    assert FREEZER not in units.units
    assert units.units[A1.service].active == "active"


def test_an_app_that_does_not_freeze_is_stopped() -> None:
    """As if it could not be frozen at all."""
    assert A1.service not in frozen_after(quiet(100), starts="failed").units


def test_an_app_that_somebody_stops_is_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """To start what freezes it would cancel that: systemd would start the app again."""
    monkeypatch.setattr(idle, "JOB_S", 0.0)
    units = frozen_after(quiet(100), starts="canceled")
    assert units.units[A1.service].active == "active"


def test_one_that_is_frozen_with_requests_is_thawed() -> None:
    """By the end of the unit that froze it."""

    async def work() -> None:
        units = Systemd()
        units.set(FREEZER, "active")
        machine: Any = SimpleNamespace(units=units)
        await Idle(machine, cast("Any", Gpus())).do(Thaw(A1))
        assert FREEZER not in units.units

    asyncio.run(work())
