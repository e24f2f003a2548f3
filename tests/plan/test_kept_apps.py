"""When the planner lets connections to an app be kept: only while nothing that may end it is begun."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.names import Replica
from flyted.launch.words import KEEPS, KEPT
from flyted.plan.actions import EngineSleep, Sleep, StopPair
from flyted.plan.facts import Facts
from flyted.plan.idle import Clock
from flyted.plan.pairs import says_it_keeps
from flyted.plan.reconcile import Plan, reconcile
from flyted.plan.states import notes_of
from tests.values import DOMAIN, app, facts, pair, quiet

A, OLD = Replica("a", 2), Replica("a", 1)
NOW = 1000.0


def awake(*replicas: Replica, service: str = "active", **more: Any) -> dict[str, Any]:
    """The units of these replicas, whose servers say that they close no idle connection."""
    units = {name: fact for each in replicas for name, fact in pair(each, service).items()}
    traffic = {each.server: quiet(0) for each in replicas}
    return {"units": units, "keeping": frozenset(each.service for each in replicas), "traffic": traffic, **more}


def plan(seen: Facts, clocks: dict[str, Clock] | None = None) -> Plan:
    """One pass."""
    return reconcile(seen, clocks or {}, DOMAIN, NOW)


def kept(answer: Plan) -> set[str]:
    """The servers to which connections are kept."""
    return {name for name, server in answer.ingress.servers.items() if server.kept}


def test_an_app_that_runs_and_says_so_is_kept() -> None:
    """Not one that says nothing, as a program with a port; nor one that starts, stops or sleeps."""
    assert kept(plan(facts(app("a", serving=2, revisions=2), **awake(A)))) == {"a-r2-0"}
    assert kept(plan(facts(app("a", serving=2, revisions=2), **awake(A, keeping=frozenset())))) == set()
    for service in ("inactive", "activating", "deactivating", "failed"):
        assert kept(plan(facts(app("a", serving=2, revisions=2), **awake(A, service=service)))) == set()


def test_an_app_on_which_work_goes_on_is_not_kept() -> None:
    """Whatever the work is: a verb puts it to sleep, say."""
    assert kept(plan(facts(app("a", serving=2, revisions=2), **awake(A, busy=frozenset({A}))))) == set()


@pytest.mark.parametrize("level", [0, 1])
def test_an_app_that_is_put_to_sleep_is_not_kept(level: int) -> None:
    """In the same pass: the ingress is told before the stop begins."""
    clocks = {"a-r2-0": Clock(born=0.0, since=0.0)}
    asks: dict[str, Any] = {"command": ("vllm", "serve", "m"), "port": 8080, "engine_sleep": level} if level else {}
    answer = plan(
        facts(
            app("a", serving=2, revisions=2, scaledown_after_s=5.0, **asks), **awake(A, traffic={"a-r2-0": quiet(100)})
        ),
        clocks,
    )
    assert [type(each) for each in answer.actions] == [EngineSleep if level else Sleep]
    assert kept(answer) == set()


def test_a_revision_that_was_replaced_is_not_kept_before_it_stops() -> None:
    """The pass that sends requests to the new one is before the one that stops the old one."""
    both = awake(OLD, A)
    first = plan(facts(app("a", serving=2, revisions=2), **both))
    assert kept(first) == {"a-r2-0"}
    assert "a-r1-0" in first.ingress.servers
    assert StopPair(OLD) not in first.actions
    second = plan(facts(app("a", serving=2, revisions=2), **both, leaving=first.leaving))
    assert StopPair(OLD) in second.actions


def test_an_app_that_may_have_several_replicas_is_not_kept() -> None:
    """Its load is counted in its pool, where such requests would not be."""
    assert kept(plan(facts(app("a", max_replicas=3, concurrency=1), **awake(Replica("a", 1))))) == set()


def test_what_launch_says_is_found_beside_other_words() -> None:
    """The names of files that end a status are the app's own, and are not changed by it."""
    assert says_it_keeps(f"serving a; {KEEPS}; {KEPT}data.json")
    assert notes_of(f"serving a; {KEEPS}; {KEPT}data.json") == (f"{KEPT}data.json",)
    assert not says_it_keeps("serving a on port 8080")
