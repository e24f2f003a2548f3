"""What the planner decides about apps that may have more than one replica."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.names import Replica
from flyted.plan.actions import FailPair, Sleep, StartPair, StartService, StopPair
from flyted.plan.facts import Facts, Failure
from flyted.plan.idle import Clock, Traffic
from flyted.plan.leaving import DRAIN_S
from flyted.plan.reconcile import Plan, reconcile
from flyted.plan.replicas import to_begin_with
from flyted.plan.scaling import LOOK_S, Scale
from flyted.plan.unit_index import UnitFact
from tests.values import DOMAIN, app, facts, pair, quiet

A = [Replica("a", 1, number) for number in range(4)]
HOST, NOW = "a.apps.localhost", 1000.0
SEVERAL: dict[str, Any] = {"max_replicas": 4, "concurrency": 1, "scaledown_after_s": 10.0}


def up(*numbers: int, service: str = "active") -> dict[str, UnitFact]:
    """The units of these replicas."""
    return {name: fact for number in numbers for name, fact in pair(A[number], service).items()}


def load(**current: int) -> dict[str, Traffic]:
    """Requests at once, by "r" and the replica's number."""
    return {A[int(name[1:])].server: quiet(0, in_flight=number) for name, number in current.items()}


def plan(seen: Facts, now: float = NOW, clocks: dict[str, Clock] | None = None) -> Plan:
    """One pass."""
    return reconcile(seen, clocks or {}, DOMAIN, now)


def enabled(answer: Plan) -> set[str]:
    """The servers that get requests."""
    return {name for name, server in answer.ingress.servers.items() if not server.rests}


def scale(*extra: int, **more: Any) -> dict[str, Scale]:
    """What the last pass has decided."""
    return {"a": Scale(1, frozenset(extra), **more)}


def test_an_app_that_sleeps_has_one_replica_in_its_pool_and_no_timer() -> None:
    """Its socket wakes it; nothing is looked at."""
    answer = plan(facts(app(**SEVERAL), units=up(0, service="inactive")))
    assert (answer.actions, answer.next_pass_at, dict(answer.scales)) == ((), None, {})
    assert answer.ingress.hosts == {HOST: "pool-7"}
    (server,) = answer.ingress.servers.values()
    assert (server.name, server.pool, server.rests) == ("a-r1-0", "pool-7", False)
    assert list(answer.ingress.timeouts_ms) == ["pool-7"]


def test_load_starts_replicas_at_once_and_they_get_requests_when_they_serve() -> None:
    """The pass that sees three requests makes two more pairs; until they serve they are in the pool and rest."""
    first = plan(facts(app(**SEVERAL), units=up(0), traffic=load(r0=3)))
    assert first.actions == (*map(StartPair, A[1:3]), *map(StartService, A[1:3]))
    assert (set(first.ingress.servers), enabled(first)) == ({r.server for r in A[:3]}, {A[0].server})
    assert first.next_pass_at == NOW + LOOK_S
    units = {**up(0, 1), **up(2, service="activating")}
    second = plan(facts(app(**SEVERAL), units=units, traffic=load(r0=1, r1=2), scales=first.scales), NOW + 1)
    assert second.actions == ()
    assert enabled(second) == {A[0].server, A[1].server}


def test_many_requests_at_a_cold_start_start_all_replicas_for_them() -> None:
    """They wait for the first one; the others need not wait for that."""
    answer = plan(facts(app(**SEVERAL), units=up(0, service="activating"), traffic=load(r0=2)))
    assert answer.actions == (StartPair(A[1]), StartService(A[1]))
    assert enabled(answer) == {A[0].server}, "the one that its socket wakes"


def test_a_minimum_runs_always() -> None:
    """Without a request; the others follow the load, and a fixed number needs no look."""
    fixed: dict[str, Any] = {"min_replicas": 3, "max_replicas": 3}
    answer = plan(facts(app(**fixed)))
    assert answer.actions == (*map(StartPair, A[:3]), *map(StartService, A[:3]))
    assert plan(facts(app(**fixed), units=up(0, 1, 2), traffic=load(r0=9, r1=9, r2=9))).next_pass_at is None
    least = plan(facts(app(**{**SEVERAL, "min_replicas": 2}), units=up(0, 1), traffic=load(r0=1, r1=2)))
    assert least.actions == (StartPair(A[2]), StartService(A[2]))


def test_replicas_that_run_are_taken_over_by_a_flyted_that_starts() -> None:
    """What runs is read from systemd; they go when they have not been needed for the period."""
    seen = facts(app(**SEVERAL), units=up(0, 2), traffic=load(r0=0, r2=0))
    answer = plan(seen)
    assert (answer.actions, answer.scales["a"].extra, enabled(answer)) == (
        (), frozenset({2}), {A[0].server, A[2].server},
    )  # fmt: skip


def test_a_replica_that_serves_alone_is_taken_over_too() -> None:
    """The first one has crashed, and flyted has just started; the same if the other one is yet to be made."""
    units = {**up(0, service="inactive"), **up(2)}
    answer = plan(facts(app(**SEVERAL), units=units, traffic=load(r2=1)))
    assert (answer.actions, enabled(answer)) == ((StartService(A[0]),), {A[2].server})
    answer = plan(facts(app(**SEVERAL), units=up(0, service="inactive"), scales=scale(2, needed=2, seen_at=NOW)))
    assert set(answer.actions) == {StartPair(A[2]), StartService(A[2]), StartService(A[0])}


def test_a_replica_that_is_not_needed_drains_before_it_stops() -> None:
    """Out of the ingress in one pass, stopped in a later one; a request that runs there ends, however long."""
    base = {"units": up(0, 1), "traffic": load(r0=0, r1=1)}
    scales = scale(1, needed=1, most=1, fewer_since=NOW - 11, seen_at=NOW)
    first = plan(facts(app(**SEVERAL), scales=scales, **base), NOW + 0.1)
    assert (first.actions, enabled(first), set(first.leaving)) == ((), {A[0].server}, {A[1]})
    later = NOW + 10 * DRAIN_S
    seen = facts(app(**SEVERAL), scales=first.scales, leaving=first.leaving, **base)
    busy = plan(seen, later)
    assert StopPair(A[1]) not in busy.actions
    assert A[1].server in busy.ingress.servers
    seen = facts(app(**SEVERAL), scales=busy.scales, leaving=busy.leaving, units=up(0, 1), traffic=load(r0=0, r1=0))
    assert StopPair(A[1]) in plan(seen, later + 1).actions


def test_a_replica_that_drains_is_taken_back_first() -> None:
    """It runs already: the next burst finds it."""
    seen = facts(
        app(**SEVERAL), units=up(0, 2), traffic=load(r0=2, r2=0), scales=scale(), leaving={A[2]: NOW - 1}
    )  # fmt: skip
    answer = plan(seen)
    assert (answer.actions, enabled(answer)) == ((), {A[0].server, A[2].server})


def test_one_that_is_being_stopped_is_not_taken_back() -> None:
    """Another one starts instead."""
    seen = facts(app(**SEVERAL), units=up(0, 1), traffic=load(r0=2, r1=0), scales=scale(), leaving={A[1]: NOW - 1},
                 busy=frozenset({A[1]}))  # fmt: skip
    assert plan(seen).actions == (StartPair(A[2]), StartService(A[2]))


def test_the_last_replica_sleeps_only_alone() -> None:
    """While others serve it counts as one of them; then it sleeps for itself, after the same period."""
    idle = {A[0].server: quiet(100), A[1].server: quiet(0, in_flight=1)}
    clocks = {A[0].server: Clock(0.0, 0.0)}
    others = facts(app(**SEVERAL), units=up(0, 1), traffic=idle, scales=scale(1, needed=2, seen_at=NOW))
    assert plan(others, clocks=clocks).actions == ()
    alone = facts(app(**SEVERAL), units=up(0), traffic={A[0].server: quiet(100)}, scales=scale(needed=1, seen_at=NOW))
    assert plan(alone, clocks=clocks).actions == (Sleep(A[0], quiet(100)),)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_crash_of_one_replica_is_no_outage(gone: int) -> None:
    """It gets no requests, and is started again at once; the others serve. Its pauses are its own."""
    units = {**up(0, 1), **up(gone, service="failed")}
    seen = facts(app(**SEVERAL), units=units, traffic=load(r0=1, r1=1), scales=scale(1, needed=2, seen_at=NOW))
    answer = plan(seen)
    assert (answer.actions, enabled(answer)) == ((StartService(A[gone]),), {A[1 - gone].server})
    assert HOST not in answer.ingress.unavailable
    units = {name: fact for name, fact in up(0, 1).items() if A[gone].server not in name}
    seen = facts(app(**SEVERAL), units=units, traffic=load(**{f"r{1 - gone}": 2}), failures={A[gone]: Failure(
        1, NOW + 2, "boom")}, scales=scale(1, needed=2, seen_at=NOW))  # fmt: skip
    answer = plan(seen)
    assert (answer.actions, enabled(answer)) == ((), {A[1 - gone].server})
    assert (answer.ingress.hosts, dict(answer.ingress.unavailable)) == ({HOST: "pool-7"}, {})
    assert StartPair(A[gone]) in plan(seen, NOW + 2).actions


@pytest.mark.parametrize("service", ["failed", "activating"])
def test_the_replica_that_serves_stays_while_the_first_one_does_not(service: str) -> None:
    """However long fewer were needed; once the first one serves, the other goes."""
    idle = scale(1, needed=1, most=1, fewer_since=NOW - 60, seen_at=NOW)
    units = {**up(0, 1), **up(0, service=service)}
    answer = plan(facts(app(**SEVERAL), units=units, traffic=load(r0=0, r1=1), scales=idle), NOW + 0.1)
    assert (enabled(answer), set(answer.leaving)) == ({A[1].server}, set())
    gone = {name: fact for name, fact in up(0, 1).items() if A[0].server not in name}
    seen = facts(app(**SEVERAL), units=gone, traffic=load(r1=1), scales=idle,
                 failures={A[0]: Failure(5, NOW + 300, "boom")})  # fmt: skip
    answer = plan(seen, NOW + 0.1)
    assert (enabled(answer), dict(answer.ingress.unavailable)) == ({A[1].server}, {})
    answer = plan(facts(app(**SEVERAL), units=up(0, 1), traffic=load(r0=0, r1=1), scales=idle), NOW + 0.1)
    assert (enabled(answer), set(answer.leaving)) == ({A[0].server}, {A[1]})


def test_a_replica_that_does_not_serve_goes_first() -> None:
    """Not the one with the highest number."""
    units = {**up(0, 1, 2), **up(1, service="failed")}
    idle = scale(1, 2, needed=2, most=2, fewer_since=NOW - 60, seen_at=NOW)
    answer = plan(facts(app(**SEVERAL), units=units, traffic=load(r0=1, r1=0, r2=0), scales=idle), NOW + 0.1)
    assert (enabled(answer), set(answer.leaving)) == ({A[0].server, A[2].server}, {A[1]})


def test_an_app_none_of_whose_replicas_listens_says_so() -> None:
    """As one of a single replica; the earliest pause counts."""
    failures = {A[0]: Failure(1, NOW + 30, "boom"), A[1]: Failure(1, NOW + 9, "boom")}
    answer = plan(facts(app(**SEVERAL, min_replicas=2), failures=failures))
    assert answer.actions == ()
    assert answer.ingress.unavailable[HOST].retry_after_s == 9
    assert (dict(answer.ingress.hosts), answer.next_pass_at) == ({}, NOW + 9)


def test_a_new_revision_takes_the_pool_over() -> None:
    """Its replicas get requests, the old ones drain in the pool and stop, at the latest after the drain time."""
    new = [Replica("a", 2, number) for number in range(2)]
    units = {**up(0, 1), **pair(new[0], "active"), **pair(new[1], "active")}
    traffic = {**load(r0=1, r1=0), **{each.server: quiet(0) for each in new}}
    both = app(serving=2, revisions=2, **SEVERAL)
    first = plan(facts(both, units=units, traffic=traffic, scales=scale(1)))
    assert (first.actions, enabled(first)) == ((), {each.server for each in new})
    assert {each.pool for each in first.ingress.servers.values()} == {"pool-7"}
    seen = facts(both, units=units, traffic=traffic, scales=first.scales, leaving=first.leaving)
    assert plan(seen, NOW + 1).actions == (StopPair(A[1]),)
    assert plan(seen, NOW + DRAIN_S).actions == (StopPair(A[0]), StopPair(A[1]))


@pytest.mark.parametrize(
    ("least", "most", "serving", "count"), [(0, 4, 3, 3), (2, 4, 0, 2), (0, 2, 3, 2), (0, 1, 3, 1)]
)
def test_a_revision_begins_with_as_many_replicas_as_serve(least: int, most: int, serving: int, count: int) -> None:
    """So nothing waits for the others to start; where each needs GPUs, it begins with one."""
    found = app(serving=1, revisions=2, min_replicas=least, max_replicas=most)
    seen = list(up(*range(serving)).values())
    assert to_begin_with(found, 2, seen) == tuple(Replica("a", 2, number) for number in range(count))
    gpus = app(serving=1, revisions=2, min_replicas=least, max_replicas=most, gpu_count=1)
    assert to_begin_with(gpus, 2, seen) == (Replica("a", 2),)


@pytest.mark.parametrize("most", [1, 3])
def test_a_replica_of_an_old_revision_drains_where_it_was(most: int) -> None:
    """In the pool if that revision had several replicas, else by itself."""
    found = app(serving=2, revisions=2, **SEVERAL)
    old = app(serving=1, revisions=1, max_replicas=most).revisions
    found = type(found)(**{**vars(found), "revisions": (*old, found.revisions[1])})
    units = {**up(0), **pair(Replica("a", 2), "active")}
    answer = plan(facts(found, units=units, traffic=load(r0=1)))
    assert answer.ingress.servers[A[0].server].pool == ("" if most == 1 else "pool-7")


def test_a_pair_that_got_no_gpu_does_not_take_the_others_down() -> None:
    """It gets no requests; the app is away only if none is left."""
    from flyted.plan.gpus.facts import GpuFacts

    gpus = GpuFacts(lost={A[1].service: "XID 79"})
    spec = {**SEVERAL, "gpu_count": 1}
    seen = facts(app(**spec), units=up(0, 1), traffic=load(r0=1, r1=1), gpu=gpus,
                 scales=scale(1, needed=2, seen_at=NOW))  # fmt: skip
    answer = plan(seen)
    assert FailPair(A[1], "its GPU is lost: XID 79") in answer.actions
    assert (enabled(answer), dict(answer.ingress.unavailable)) == ({A[0].server}, {})
    alone = facts(app(**spec), units=up(0), traffic=load(r0=1), gpu=GpuFacts(lost={A[0].service: "XID 79"}))
    assert set(plan(alone).ingress.unavailable) == {HOST}


def test_browsers_of_a_sticky_app_come_back_to_their_replica() -> None:
    """The ingress is told by the pool."""
    assert plan(facts(app(**SEVERAL, sticky=True), units=up(0))).ingress.sticky == {"pool-7": "yes"}
    assert plan(facts(app(**SEVERAL), units=up(0))).ingress.sticky == {}
