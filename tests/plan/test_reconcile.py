"""What the planner decides, from values alone."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.names import Replica
from flyted.plan.actions import RenewPair, Sleep, StartPair, StartService, StopPair
from flyted.plan.facts import Facts, Failure
from flyted.plan.idle import Clock
from flyted.plan.ingress.maps import render_maps
from flyted.plan.ingress.state import DEFAULT_TIMEOUT_MS, unavailable
from flyted.plan.leaving import DRAIN_S
from flyted.plan.pairs import RENEWALS
from flyted.plan.reconcile import Plan, reconcile
from tests.values import DOMAIN, app, facts, pair, quiet

A1, A2 = Replica("a", 1), Replica("a", 2)
HOST = "a.apps.localhost"


def plan(seen: Facts, now: float = 1000.0) -> Plan:
    """One pass, without earlier clocks."""
    return reconcile(seen, {}, DOMAIN, now)


def test_nothing_wanted_nothing_done_and_no_timer() -> None:
    """A daemon without apps never wakes."""
    answer = plan(facts())
    assert (answer.actions, answer.next_pass_at, dict(answer.ingress.servers)) == ((), None, {})


def test_after_a_reboot_every_pair_is_made_anew() -> None:
    """Transient units do not survive: the store does."""
    answer = plan(facts(app("a"), app("b")))
    assert answer.actions == (StartPair(A1), StartPair(Replica("b", 1)))
    assert answer.ingress.hosts == {HOST: "a-r1-0", "b.apps.localhost": "b-r1-0"}


@pytest.mark.parametrize("least", [0, 1])
def test_units_of_another_version_are_made_anew_where_they_sleep(least: int) -> None:
    """One that runs, or is just being acted on, goes on as it is; one that is not there is made in any case."""
    asks = {"outdated": frozenset({A1}), "traffic": {"a-r1-0": quiet()}}
    answer = plan(facts(app("a", min_replicas=least), units=pair(A1), **asks))
    assert answer.actions == (RenewPair(A1),)
    assert answer.ingress.hosts == {HOST: "a-r1-0"}
    assert answer.ingress.timeouts_ms["a-r1-0"] > DEFAULT_TIMEOUT_MS, "who comes now waits for the units and a start"
    for state in ("activating", "active", "deactivating"):
        assert RenewPair(A1) not in plan(facts(app("a", min_replicas=least), units=pair(A1, state), **asks)).actions
    assert plan(facts(app("a", min_replicas=least), units=pair(A1), busy=frozenset({A1}), **asks)).actions == ()
    assert StartPair(A1) in plan(facts(app("a", min_replicas=least), **asks)).actions
    assert RenewPair(A1) not in plan(facts(app("a", min_replicas=least), **asks)).actions
    assert plan(facts(app("a", wanted="stopped"), units=pair(A1), **asks)).actions == ()


def test_few_units_are_made_anew_at_a_time() -> None:
    """Each is away for a moment only; those that are just being made count."""
    names = [f"a{number}" for number in range(20)]
    replicas = [Replica(name, 1) for name in names]
    units = {name: fact for replica in replicas for name, fact in pair(replica).items()}
    seen = facts(*map(app, names), units=units, outdated=frozenset(replicas))
    assert plan(seen).actions == tuple(map(RenewPair, replicas[:RENEWALS]))
    seen = facts(*map(app, names), units=units, outdated=frozenset(replicas), busy=frozenset(replicas[2:5]))
    assert plan(seen).actions == (RenewPair(replicas[0]),)


@pytest.mark.parametrize("wanted", ["started", "stopped"])
@pytest.mark.parametrize("failing", [False, True])
def test_an_app_that_wants_a_token_wants_it_in_every_state(wanted: str, failing: bool) -> None:
    """Serving, asleep, stopped or failing: strangers learn neither what it says nor why it is away."""
    failures = {A1: Failure(1, 2000.0, "KeyError")} if failing else {}
    apps = (app("a", wanted=wanted, requires_auth=True), app("b", wanted=wanted))
    answer = plan(facts(*apps, units={} if failing else pair(A1), failures=failures))
    assert answer.ingress.guarded == {HOST: "a"}
    assert {HOST} <= {*answer.ingress.hosts, *answer.ingress.unavailable}


def test_the_guard_is_the_serving_revisions() -> None:
    """A revision that does not serve (yet, or because it failed) neither opens nor closes a path."""
    assert plan(facts(app("a", serving=None, requires_auth=True))).ingress.guarded == {}


@pytest.mark.parametrize("wanted", ["started", "stopped"])
def test_a_fence_is_the_serving_revisions_in_every_state(wanted: str) -> None:
    """Only the paths that its key guards are open, by host."""
    words = ("vllm", "serve", "m", "--api-key", "x")
    answer = plan(facts(app("a", wanted=wanted, command=words), app("b", command=("vllm", "serve", "m"))))
    assert answer.ingress.restricted == {HOST: "a"}
    assert answer.ingress.open_paths == {
        f"{HOST}{path}/": "open" for path in ("/v1", "/v2", "/inference", "/cohere", "/health")
    }
    assert plan(facts(app("a", serving=None, command=words))).ingress.restricted == {}


def test_an_app_that_sleeps_costs_no_timer() -> None:
    """Its socket listens, its service does not run: nothing to look at."""
    answer = plan(facts(app("a"), units=pair(A1)))
    assert (answer.actions, answer.next_pass_at) == ((), None)
    assert answer.ingress.hosts == {HOST: "a-r1-0"}


def test_an_idle_app_is_put_to_sleep_and_stays_reachable() -> None:
    """Sleep stops the service; the ingress keeps sending requests, which wake it."""
    seen = facts(app("a", scaledown_after_s=10.0), units=pair(A1, "active"), traffic={"a-r1-0": quiet(100)})
    first = plan(seen)
    assert first.actions == ()
    second = reconcile(seen, first.clocks, DOMAIN, (first.next_pass_at or 0) + 0.1)
    assert second.actions == (Sleep(A1, quiet(100)),)
    assert second.ingress.hosts == {HOST: "a-r1-0"}


def test_a_busy_app_stays_awake() -> None:
    """A request in flight, a WebSocket, a stream: however long."""
    seen = facts(
        app("a", scaledown_after_s=10.0), units=pair(A1, "active"), traffic={"a-r1-0": quiet(5000, in_flight=1)}
    )
    clocks: dict[str, Clock] = {}
    now = 1000.0
    for _ in range(50):
        answer = reconcile(seen, clocks, DOMAIN, now)
        assert answer.actions == ()
        assert answer.next_pass_at is not None
        clocks, now = dict(answer.clocks), answer.next_pass_at


def test_without_counters_nobody_is_put_to_sleep() -> None:
    """HAProxy is down: that says nothing about idleness."""
    seen = facts(app("a", scaledown_after_s=10.0), units=pair(A1, "active"))
    answer = plan(seen)
    later = reconcile(seen, answer.clocks, DOMAIN, 5000.0)
    assert later.actions == ()


def test_a_minimum_of_one_is_kept_running() -> None:
    """replicas=(1, 1): started without a request, never put to sleep."""
    assert plan(facts(app("a", min_replicas=1), units=pair(A1))).actions == (StartService(A1),)
    traffic = {"a-r1-0": quiet(100000)}
    assert plan(facts(app("a", min_replicas=1), units=pair(A1, "active"), traffic=traffic)).next_pass_at is None


def test_a_deploy_switches_before_the_old_one_stops() -> None:
    """First pass: the host moves, the old server stays to finish its requests. Second: the old pair stops."""
    units = {**pair(A1, "active"), **pair(A2, "active")}
    traffic = {"a-r1-0": quiet(0, in_flight=1), "a-r2-0": quiet(0)}
    now = 1000.0
    first = reconcile(facts(app("a", serving=2, revisions=2), units=units, traffic=traffic), {}, DOMAIN, now)
    assert first.actions == ()
    assert first.ingress.hosts == {HOST: "a-r2-0"}
    assert set(first.ingress.servers) == {"a-r1-0", "a-r2-0"}
    leaving = dict.fromkeys(first.leaving, now)
    seen = facts(app("a", serving=2, revisions=2), units=units, traffic=traffic, leaving=leaving)
    assert reconcile(seen, {}, DOMAIN, now + 1).actions == ()
    drained = {**traffic, "a-r1-0": quiet(1)}
    seen = facts(app("a", serving=2, revisions=2), units=units, traffic=drained, leaving=leaving)
    answer = reconcile(seen, {}, DOMAIN, now + 1)
    assert answer.actions == (StopPair(A1),)
    assert set(answer.ingress.servers) == {"a-r2-0"}


def test_a_request_that_never_ends_does_not_hold_the_old_revision_for_ever() -> None:
    """After the drain time the old pair stops."""
    units = {**pair(A1, "active"), **pair(A2, "active")}
    traffic = {"a-r1-0": quiet(0, in_flight=1)}
    seen = facts(app("a", serving=2, revisions=2), units=units, traffic=traffic, leaving={A1: 0.0})
    assert StopPair(A1) in reconcile(seen, {}, DOMAIN, DRAIN_S).actions


def test_a_candidate_is_neither_routed_nor_stopped() -> None:
    """A deploy owns its new replica until it serves."""
    units = {**pair(A1), **pair(A2, "activating")}
    answer = plan(facts(app("a", revisions=2), units=units, candidates=frozenset({A2})))
    assert answer.actions == ()
    assert answer.ingress.hosts == {HOST: "a-r1-0"}
    assert set(answer.ingress.servers) == {"a-r1-0"}


@pytest.mark.parametrize("service", ["active", "inactive"])
def test_a_stopped_app_is_told_to_visitors_and_its_units_go(service: str) -> None:
    """503 with what to type; nothing can wake it."""
    stopped = app("a", wanted="stopped")
    units = pair(A1, service)
    first = plan(facts(stopped, units=units))
    assert "flytectl app start a" in first.ingress.unavailable[HOST].reason
    assert first.ingress.hosts == {}
    second = plan(facts(stopped, units=units, leaving={A1: 999.0}))
    assert second.actions == (StopPair(A1),)
    assert plan(facts(stopped)).next_pass_at is None


def test_an_app_that_has_never_served_says_so() -> None:
    """503, not "no app has this name": soon again while its first revision starts; without the reason if it failed."""
    new = app("a", serving=None)
    starting = plan(facts(new, units=pair(A1, "activating"), candidates=frozenset({A1})))
    assert starting.ingress.unavailable[HOST] == unavailable('"a" is starting for the first time', 5)
    assert (starting.ingress.hosts, starting.actions) == ({}, ())
    failed = plan(facts(new))
    assert (failed.actions, dict(failed.ingress.hosts)) == ((), {})
    assert set(failed.ingress.unavailable) == {HOST}
    assert "flytectl app get a" in failed.ingress.unavailable[HOST].reason
    assert "boom" not in failed.ingress.unavailable[HOST].reason


def test_units_of_a_deleted_app_are_cleared_away() -> None:
    """What no app wants is stopped, whoever left it."""
    assert plan(facts(units=pair(A1), leaving={A1: 0.0})).actions == (StopPair(A1),)


@pytest.mark.parametrize(
    "reason", ["it exited with status 1: cannot connect: postgres://admin:CANARY@10.0.0.5", "no GPU"]
)
def test_a_failed_pair_waits_and_tells_strangers_no_reason(reason: str) -> None:
    """During the back-off visitors hear when to come back, and who can see why; then the pair is made again.

    A reason is a line of the app's log. It goes into no table of the ingress, which every local user may read.
    """
    failure = Failure(1, 1030.0, reason)
    answer = plan(facts(app("a"), failures={A1: failure}))
    assert answer.actions == ()
    told = answer.ingress.unavailable[HOST].reason
    assert told == '"a" cannot serve now; its operator can see why: flytectl app get a'
    assert not [text for text in render_maps(answer.ingress).values() if reason in text]
    assert answer.ingress.unavailable[HOST].retry_after_s == 30
    assert answer.next_pass_at == 1030.0
    assert reconcile(facts(app("a"), failures={A1: failure}), {}, DOMAIN, 1030.0).actions == (StartPair(A1),)


def test_a_failed_pair_gets_no_requests_while_it_is_taken_down() -> None:
    """Its pause may end before that does: nothing listens, and nothing is to be started yet."""
    answer = reconcile(
        facts(app("a"), failures={A1: Failure(1, 1030.0, "why")}, busy=frozenset({A1})), {}, DOMAIN, 1031.0
    )
    assert answer.actions == ()
    assert HOST not in answer.ingress.hosts
    assert answer.ingress.unavailable[HOST].retry_after_s == 1
    assert answer.next_pass_at is None


@pytest.mark.parametrize("outdated", [False, True])
def test_a_pair_that_is_still_being_stopped_gets_no_requests(outdated: bool) -> None:
    """Its app is wanted again. One that is renewed keeps them: HAProxy repeats a refused connection for a moment."""
    renewed = frozenset({A1}) if outdated else frozenset()
    answer = plan(facts(app("a"), busy=frozenset({A1}), outdated=renewed))
    assert answer.actions == ()
    assert (HOST in answer.ingress.hosts) is outdated
    assert (HOST in answer.ingress.unavailable) is not outdated


@pytest.mark.parametrize("h2c", [False, True])
def test_the_ingress_speaks_to_an_app_as_its_port_is_named(h2c: bool) -> None:
    """HTTP/2 or HTTP/1.1, never both."""
    answer = plan(facts(app("a", port=8080, h2c=h2c)))
    assert answer.ingress.servers[A1.server].h2 is h2c


def test_what_is_being_acted_on_is_left_alone() -> None:
    """No second action meets the first on one pair; the route stays."""
    answer = plan(facts(app("a"), units=pair(A1), busy=frozenset({A1})))
    assert answer.actions == ()
    assert answer.ingress.hosts == {HOST: "a-r1-0"}


@pytest.mark.parametrize(
    ("changes", "service", "awake_s", "waiting_s"),
    [
        ({}, "active", None, 300 + 30 + 300),
        ({"request_timeout_s": 5.0}, "active", 5, 5 + 30 + 300),
        ({"request_timeout_s": 5.0, "gpu_count": 1}, "active", 5, 5 + 30 + 300 + 120),
    ],
)
def test_who_wakes_an_app_is_held_for_as_long_as_its_start_may_take(
    changes: dict[str, Any], service: str, awake_s: int | None, waiting_s: int
) -> None:
    """And then for as long as an answer may; an app that runs has that alone."""
    for state, limit in ((service, awake_s), ("inactive", waiting_s), ("activating", waiting_s)):
        seen = facts(app("a", **changes), units=pair(A1, state))
        assert plan(seen).ingress.timeouts_ms == ({"a-r1-0": limit * 1000} if limit else {}), state
    busy = facts(app("a", **changes), units=pair(A1, service), busy=frozenset({A1}))
    assert plan(busy).ingress.timeouts_ms == {"a-r1-0": waiting_s * 1000}


def test_the_ingress_is_patient_before_an_app_goes_to_sleep() -> None:
    """In the pass that puts it to sleep: a request may come in the next moment."""
    seen = facts(app("a", scaledown_after_s=10.0), units=pair(A1, "active"), traffic={"a-r1-0": quiet(100)})
    assert plan(seen).ingress.timeouts_ms == {}
    asleep = reconcile(seen, {"a-r1-0": Clock(0.0, 0.0)}, DOMAIN, 1000.0)
    assert (asleep.actions, asleep.ingress.timeouts_ms) == ((Sleep(A1, quiet(100)),), {"a-r1-0": 630_000})
