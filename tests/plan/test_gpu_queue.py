"""What a pass decides about GPUs: who gets one, who goes to sleep for it, what ends and what fails."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.gpu import Ask
from flyted.contract.names import Replica, host_of
from flyted.plan.actions import Evict, FailPair, KillUnit, Sleep, StartService
from flyted.plan.facts import Facts
from flyted.plan.gpus.facts import Asking, GpuFacts, Learned, Lease
from flyted.plan.gpus.queue import LOOK_S, GpuPlan, plan_gpus
from flyted.plan.idle import Clock
from flyted.plan.ingress.state import DEFAULT_TIMEOUT_MS
from flyted.plan.reconcile import Plan, reconcile
from tests.plan.gpus import GIB, gpu, lease, machine, process, unit
from tests.values import DOMAIN, app, facts, pair, quiet

NOW = 1000.0
A, B, C = (Replica(name, 1) for name in "abc")
ONE = machine(gpu("1"))


def seen(known: GpuFacts, states: dict[Replica, str] | None = None, **more: Any) -> Facts:
    """Facts of some apps, whose services are in these states."""
    units = {name: fact for replica, state in (states or {}).items() for name, fact in pair(replica, state).items()}
    names = dict.fromkeys(replica.app_id for replica in states or {})
    apps = (app(name, gpu_count=1, scaledown_after_s=1e6) for name in names)
    return facts(*apps, **{"units": units, "gpu": known, **more})


def asks(*replicas: Replica) -> tuple[Asking, ...]:
    """Each wants one GPU."""
    return tuple(Asking(replica, Ask(1)) for replica in replicas)


def plan(known: Facts, idle: dict[Replica, float] | None = None) -> GpuPlan:
    """What is decided about GPUs alone."""
    return plan_gpus(known, idle or {}, NOW)


def whole(known: Facts, clocks: dict[str, Clock] | None = None) -> Plan:
    """The whole pass."""
    return reconcile(known, clocks or {}, DOMAIN, NOW)


def long_ago(*replicas: Replica) -> dict[str, Clock]:
    """Clocks of apps that have run for long."""
    return {replica.server: Clock(born=0.0, since=0.0) for replica in replicas}


def test_without_leases_and_starts_nothing_is_looked_at() -> None:
    """No app has a GPU: the helper that asks the driver is left alone, and there is no timer."""
    assert plan(seen(GpuFacts(learned={"a": Learned(1)}), {A: "active"})) == GpuPlan()


def test_who_waits_has_the_gpus_looked_at_first() -> None:
    """The answer to that look is what causes the next pass, so time does not."""
    decided = plan(seen(GpuFacts(asking=asks(A)), {A: "activating"}))
    assert (decided.look, decided.next_pass_at, decided.grants, decided.waits) == (True, None, (), {})


def test_gpus_that_cannot_be_looked_at_are_waited_for() -> None:
    """The client hears why, and it is tried again soon."""
    decided = plan(seen(GpuFacts(asking=asks(A), error="flyted-gpu does not answer"), {A: "activating"}))
    assert decided.waits == {A.service: "flyted-gpu does not answer"}
    assert (decided.look, decided.next_pass_at) == (False, NOW + LOOK_S)


def test_a_gpu_is_granted_once() -> None:
    """Two starts come at the same moment: the first one gets it, the second one sees that."""
    decided = plan(seen(GpuFacts(asking=asks(A, B), inventory=ONE), {A: "activating", B: "activating"}))
    (granted,) = decided.grants
    assert (granted.lease.unit, granted.lease.devices) == (A.service, ("1",))
    assert ("/dev/nvidia0", "rw") in granted.nodes
    assert "held by a (busy)" in decided.waits[B.service]
    assert decided.next_pass_at == NOW + LOOK_S


def test_two_share_one_gpu_when_both_needs_are_known() -> None:
    """The reserve of a grant counts for the next one of the same pass."""
    learned = {name: Learned(10 * GIB) for name in "abc"}
    states = dict.fromkeys((A, B, C), "activating")
    small = machine(gpu("1", gib=24))
    decided = plan(seen(GpuFacts(learned=learned, asking=asks(A, B, C), inventory=small), states))
    assert [each.lease.unit for each in decided.grants] == [A.service, B.service]
    assert list(decided.waits) == [C.service]


def test_a_start_that_was_cancelled_gets_nothing() -> None:
    """Its unit is on its way down, or gone; who is behind it is served."""
    decided = plan(seen(GpuFacts(asking=asks(A, C, B), inventory=ONE), {A: "deactivating", B: "activating"}))
    assert decided.cancelled == (A.service, C.service)
    assert [each.lease.unit for each in decided.grants] == [B.service]


def test_what_this_machine_never_has_is_refused() -> None:
    """Its GPU has gone since the deploy."""
    decided = plan(seen(GpuFacts(asking=asks(A), inventory=machine()), {A: "activating"}))
    assert "finds no GPU" in decided.refusals[A.service]
    assert decided.next_pass_at is None


@pytest.mark.parametrize(("seconds", "goes"), [(4.9, False), (5.0, True)])
def test_only_who_has_been_idle_for_a_while_gives_way(seconds: float, *, goes: bool) -> None:
    """A request that has just ended may be followed by the next one."""
    known = GpuFacts(leases=(lease("a", "1"),), asking=asks(B), inventory=ONE)
    decided = plan(seen(known, {A: "active", B: "activating"}), {A: seconds})
    assert decided.evict == ({A: B.service} if goes else {})


def test_an_earlier_revision_gives_way_at_once() -> None:
    """It is the same app's."""
    new = Replica("a", 2)
    known = GpuFacts(leases=(lease("a", "1"),), asking=asks(new), inventory=ONE)
    units = {**pair(A, "active"), **pair(new, "activating")}
    assert plan(facts(app("a", revisions=2), units=units, gpu=known), {A: 0.0}).evict == {A: new.service}


def test_nobody_sleeps_for_whom_an_earlier_start_goes_before() -> None:
    """Both wait for the same GPU: one app goes to sleep, for the first of them."""
    known = GpuFacts(leases=(lease("a", "1"),), asking=asks(B, C), inventory=ONE)
    decided = plan(seen(known, {A: "active", B: "activating", C: "activating"}), {A: 60.0})
    assert decided.evict == {A: B.service}
    assert set(decided.waits) == {B.service, C.service}


def test_a_lease_is_over_with_its_unit_and_its_gpu_not_free_before_its_memory() -> None:
    """The unit is gone; what it used is still in use."""
    held = lease("a", "1")
    used = machine(gpu("1", processes=(process(unit("a"), 20),)))
    decided = plan(seen(GpuFacts(leases=(held,), asking=asks(B), inventory=used), {B: "activating"}))
    assert decided.over == (held,)
    assert "is not released yet" in decided.waits[B.service]
    assert decided.grants == ()


def test_a_unit_that_loads_is_ready_when_it_is_active() -> None:
    """Not before."""
    known = GpuFacts(leases=(lease("a", "1"),), loading=frozenset({A.service}))
    assert plan(seen(known, {A: "activating"})).ready == ()
    assert plan(seen(known, {A: "active"})).ready == (A.service,)


def test_who_was_refused_fails_once_that_start_has_ended() -> None:
    """Then it backs off as any app that cannot start; while other work runs on it, that is waited for."""
    known = GpuFacts(refused={A.service: "no GPU within 8 s"})
    for state in ("activating", "deactivating"):
        assert plan(seen(known, {A: state})) == GpuPlan()
    decided = plan(seen(known, {A: "failed"}))
    assert decided.failed == (FailPair(A, "no GPU: no GPU within 8 s"),)
    assert decided.settled == {A.service}
    later = plan(seen(known, {A: "failed"}, busy=frozenset({A})))
    assert (later.failed, later.settled) == ((), frozenset())


def test_a_candidate_that_was_refused_is_its_deploys() -> None:
    """So is nothing of an app that is gone."""
    known = GpuFacts(refused={A.service: "no GPU"})
    for decided in (plan(seen(known, {A: "failed"}, candidates=frozenset({A}))), plan(seen(known))):
        assert decided.failed == ()
        assert decided.settled == {A.service}


def test_who_has_lost_its_gpu_is_killed_whatever_else_is_done_to_it() -> None:
    """And fails, as soon as nothing else is."""
    known = GpuFacts(leases=(lease("a", "1"),), lost={A.service: "GPU is lost"})
    busy = whole(seen(known, {A: "active"}, busy=frozenset({A})))
    assert busy.actions == (KillUnit(A.service, "has lost its GPU: GPU is lost"),)
    decided = whole(seen(known, {A: "active"}))
    assert decided.actions == (*busy.actions, FailPair(A, "its GPU is lost: GPU is lost"))
    assert decided.gpu.settled == {A.service}


def test_an_eviction_is_an_action_and_who_comes_now_waits() -> None:
    """The ingress hears at once that the app starts again before it answers."""
    held: tuple[Lease, ...] = (lease("a", "1"),)
    known = seen(
        GpuFacts(leases=held, asking=asks(B), inventory=ONE), {A: "active", B: "activating"},
        traffic={A.server: quiet()},
    )  # fmt: skip
    decided = whole(known, long_ago(A))
    assert decided.actions == (Evict(A, B.service, quiet()),)
    assert decided.ingress.timeouts_ms[A.server] > DEFAULT_TIMEOUT_MS
    assert decided.next_pass_at == NOW + LOOK_S


@pytest.mark.parametrize("traffic", [{}, {A.server: quiet(in_flight=1)}])
def test_nobody_is_put_to_sleep_who_may_be_busy(traffic: dict[str, Any]) -> None:
    """A request is in flight, or HAProxy, which counts them, does not answer."""
    held = (lease("a", "1"),)
    known = GpuFacts(leases=held, asking=asks(B), inventory=ONE)
    states = {A: "active", B: "activating"}
    assert whole(seen(known, states, traffic=traffic), long_ago(A)).actions == ()


def test_who_goes_to_sleep_anyway_is_not_evicted_too() -> None:
    """One action on a pair."""
    known = GpuFacts(leases=(lease("a", "1"),), asking=asks(B), inventory=ONE)
    units = {**pair(A, "active"), **pair(B, "activating")}
    apps = (app("a", scaledown_after_s=10.0), app("b"))
    decided = whole(facts(*apps, units=units, gpu=known, traffic={A.server: quiet()}), long_ago(A))
    assert decided.actions == (Sleep(A, quiet()),)


def test_who_fails_is_not_started_in_the_same_pass() -> None:
    """Its app has a minimum of one replica, and would be started at once."""
    known = GpuFacts(refused={A.service: "no GPU"})
    stays = app("a", min_replicas=1)
    assert whole(facts(stays, units=pair(A, "failed"))).actions == (StartService(A),)
    assert whole(facts(stays, units=pair(A, "failed"), gpu=known)).actions == (FailPair(A, "no GPU: no GPU"),)


@pytest.mark.parametrize("units", [{}, pair(A, "failed")])
def test_who_fails_gets_no_requests_any_more(units: dict[str, Any]) -> None:
    """Its pair goes, or was just not made anew: a request would find nothing that listens."""
    known = GpuFacts(refused={A.service: "no GPU"})
    done = whole(facts(app("a"), units=units, gpu=known)).ingress
    assert list(done.unavailable) == [host_of("a", DOMAIN)]
    assert not whole(facts(app("a"), units=units)).ingress.unavailable
