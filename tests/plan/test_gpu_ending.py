"""One start puts one app to sleep: what ends already makes the room, and nobody else has to go for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flyted.contract.gpu import Ask
from flyted.contract.names import Replica
from flyted.plan.actions import Sleep, StopPair
from flyted.plan.facts import Facts
from flyted.plan.gpus.facts import Asking, GpuFacts
from flyted.plan.gpus.queue import GpuPlan, plan_gpus
from flyted.plan.idle import Clock
from flyted.plan.reconcile import Plan, reconcile
from flyted.plan.scaling import Scale
from tests.plan.gpus import gpu, lease, machine, process, unit
from tests.values import DOMAIN, app, facts, pair, quiet

NOW = 1000.0
A, B, NEW = (Replica(name, 1) for name in ("a", "b", "new"))
TWO = machine(gpu("1"), gpu("2"))
LEASES = (lease("a", "1"), lease("b", "2"))


def seen(state: str, known: GpuFacts | None = None, **more: Any) -> Facts:
    """The app of the first GPU is in this state, that of the second one is idle, and another one waits."""
    units = {**pair(B, "active"), **pair(NEW, "activating"), **(pair(A, state) if state else {})}
    apps = (app(each.app_id, gpu_count=1, scaledown_after_s=1e6) for each in (A, B, NEW))
    gpus = known or GpuFacts(leases=LEASES, asking=(Asking(NEW, Ask(1)),), inventory=TWO)
    return facts(*apps, **{"units": units, "gpu": gpus, **more})


def plan(given: Facts, **idle: float) -> GpuPlan:
    """What is decided about GPUs alone."""
    return plan_gpus(given, {Replica(name, 1): seconds for name, seconds in idle.items()}, NOW)


def whole(given: Facts, at: float = NOW) -> Plan:
    """A pass, of apps that have run for long."""
    clocks = {each.server: Clock(0.0, 0.0) for each in (A, Replica("a", 1, 1))} | {B.server: Clock(500.0, 500.0)}
    return reconcile(given, clocks, DOMAIN, at)


def test_the_first_eviction_is_the_only_one() -> None:
    """While it is checked and carried out, while the app stops, and until its memory has come back."""
    assert plan(seen("active"), a=900.0, b=500.0).evict == {A: NEW.service}
    for given in (seen("active", busy=frozenset({A})), seen("deactivating"), seen("inactive"), seen("")):
        decided = plan(given, b=500.0)
        assert (decided.evict, list(decided.waits)) == ({}, [NEW.service])


@pytest.mark.parametrize("used", ["processes", "driver"])
def test_memory_that_comes_back_is_waited_for_but_not_for_ever(used: str) -> None:
    """Of a process that has not ended, or of the driver; once flyted has given that up, another app sleeps."""
    first = gpu("1", processes=(process(unit("a"), 20),)) if used == "processes" else gpu("1", used=20)
    leases = (lease("a", "1", ended=5.0), LEASES[1])
    known = {"leases": leases, "asking": (Asking(NEW, Ask(1)),), "inventory": machine(first, gpu("2"))}
    returning = GpuFacts(**known, returning=frozenset({A.service}))  # type: ignore[arg-type]
    assert plan(seen("", returning), b=500.0).evict == {}
    assert plan(seen("", GpuFacts(**known)), b=500.0).evict == {B: NEW.service}  # type: ignore[arg-type]


@pytest.mark.parametrize("state", ["active", "activating"])
def test_an_app_that_goes_on_makes_no_room(state: str) -> None:
    """It is busy, or starts: the idle one goes."""
    assert plan(seen(state), b=500.0).evict == {B: NEW.service}


def test_a_start_that_needs_more_than_what_ends_waits_for_that_first() -> None:
    """Of two GPUs one comes back; an idle app goes for the other one only if that is then enough."""
    known = GpuFacts(leases=LEASES, asking=(Asking(NEW, Ask(2)),), inventory=TWO)
    assert plan(seen("deactivating", known), b=500.0).evict == {}
    assert plan(seen("active", known), a=900.0, b=500.0).evict == {A: NEW.service, B: NEW.service}


def test_an_app_that_goes_to_sleep_in_this_pass_is_enough() -> None:
    """Its own period is over: no other one, which would be the better choice, is put to sleep too."""
    given = seen("active", traffic={A.server: quiet(), B.server: quiet()})
    sleeps = app("b", gpu_count=1, scaledown_after_s=10.0)
    given = replace(given, apps=(given.apps[0], sleeps, given.apps[2]))
    assert [type(action) for action in whole(given).actions] == [Sleep]


def test_a_replica_that_was_given_up_is_enough() -> None:
    """It drains for a pass or two, with its lease: the first app's only replica, idle too, stays."""
    second = Replica("a", 1, 1)
    many = app("a", max_replicas=3, concurrency=1, gpu_count=1, scaledown_after_s=1e6)
    other = app("b", gpu_count=1, scaledown_after_s=1e6)
    leases = (*LEASES, replace(lease("a", "3"), unit=second.service))
    gpus = GpuFacts(leases=leases, asking=(Asking(NEW, Ask(1)),), inventory=machine(*map(gpu, "123")))
    units = {**pair(A, "active"), **pair(second, "active"), **pair(B, "active"), **pair(NEW, "activating")}
    traffic = {A.server: quiet(0, in_flight=1), second.server: quiet(10_000), B.server: quiet(6_000)}
    scales = {"a": Scale(1, frozenset({1}), needed=2, seen_at=NOW)}
    base = {"units": units, "traffic": traffic, "gpu": gpus}
    apps = (many, other, app("new", gpu_count=1))
    first = whole(facts(*apps, **base, scales=scales))
    assert (first.scales["a"].extra, first.actions) == (frozenset(), ())
    later = whole(facts(*apps, **base, scales=first.scales, leaving={second: NOW}), NOW + 0.1)
    assert later.actions == (StopPair(second),)
    stops = whole(facts(*apps, **base, scales=first.scales, leaving={second: NOW}, busy=frozenset({second})), NOW + 1)
    assert stops.actions == ()
