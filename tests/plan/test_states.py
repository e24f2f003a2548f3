"""systemd's words become a user's word; an unknown one is shown, never a traceback."""

from __future__ import annotations

from typing import Any

import pytest

from flyted.contract.gpu import Ask
from flyted.contract.names import Replica
from flyted.contract.status import AppState
from flyted.launch.words import KEPT, WAITING
from flyted.plan.facts import Facts, Failure
from flyted.plan.gpus.facts import Asking, GpuFacts
from flyted.plan.states import STATE_OF, notes_of, replica_states, state_of
from flyted.plan.unit_index import UnitFact
from tests.values import app, facts, pair

A1 = Replica("a", 1)
SYSTEMDS_STATES = (
    "active",
    "reloading",
    "inactive",
    "failed",
    "activating",
    "deactivating",
    "maintenance",
    "refreshing",
)


def test_every_state_that_systemd_documents_has_a_word() -> None:
    """org.freedesktop.systemd1(5), ActiveState."""
    assert set(STATE_OF) == set(SYSTEMDS_STATES)


@pytest.mark.parametrize(
    ("service", "state"),
    [
        ("inactive", "sleeping"),
        ("activating", "starting"),
        ("active", "running"),
        ("deactivating", "stopping"),
        ("failed", "failed"),
    ],
)
def test_a_started_app_is_what_its_service_is(service: str, state: str) -> None:
    """One word from the service's state."""
    assert state_of(app("a"), facts(units=pair(A1, service)))[0] == state


def test_an_unknown_state_is_shown_in_systemds_own_words() -> None:
    """A newer systemd may have more."""
    units = {**pair(A1), A1.service: UnitFact(A1.service, "loaded", "levitating", "high")}
    assert state_of(app("a"), facts(units=units)) == (AppState.UNKNOWN, "systemd says levitating (high)")


def test_a_start_that_may_be_in_vain_says_why() -> None:
    """The word of its unit, which launch gives; other words of a unit are no reason."""
    for status, reason in ((f"{WAITING}nothing listens", "nothing listens"), ("loading main", "")):
        units = {**pair(A1), A1.service: UnitFact(A1.service, "loaded", "activating", "start", status)}
        assert state_of(app("a"), facts(units=units)) == (AppState.STARTING, reason)


def test_stopped_and_stopping() -> None:
    """Stopped only when nothing is left."""
    assert state_of(app("a", wanted="stopped"), facts())[0] is AppState.STOPPED
    assert state_of(app("a", wanted="stopped"), facts(units=pair(A1, "active")))[0] is AppState.STOPPING


def test_deploying_and_never_came_up() -> None:
    """Before its first revision serves an app is being deployed, or has failed with that revision's reason."""
    new = app("a", serving=None)
    assert state_of(new, facts(candidates=frozenset({A1})))[0] is AppState.DEPLOYING
    assert state_of(new, facts()) == (AppState.FAILED, "boom")


def test_a_pair_that_systemd_gave_up_on() -> None:
    """The reason is the failure's."""
    assert state_of(app("a"), facts(failures={A1: Failure(1, 0, "why")})) == (AppState.FAILED, "why")


def test_a_start_that_waits_for_a_gpu_says_so() -> None:
    """What it needs, what is there and who holds it."""
    waits = GpuFacts(asking=(Asking(A1, Ask(1), "needs 1 × GPU"),))
    seen = facts(app(), units=pair(A1, "activating"), gpu=waits)
    assert state_of(app(), seen) == (AppState.STARTING, "waiting for a GPU: needs 1 × GPU")
    assert state_of(app(), facts(app(), units=pair(A1, "active"), gpu=waits)) == (AppState.RUNNING, "")


def test_what_a_service_says_of_the_apps_own_files_is_a_note() -> None:
    """By launch's word at the end of the status; another status is none, and no text of it steers a terminal."""
    assert notes_of(f"serving a; {KEPT}data.json") == (f"{KEPT}data.json",)
    assert notes_of(f"{KEPT}a\x1b[31m\n") == (f"{KEPT}a [31m",)
    assert notes_of("serving a") == notes_of(KEPT) == notes_of("") == ()


SEVERAL: dict[str, Any] = {"max_replicas": 3}
A1S = [Replica("a", 1, number) for number in range(3)]


def states(seen: Facts) -> list[tuple[int, str]]:
    """The numbers and states of an app's replicas."""
    return [(each.replica.number, each.state.value) for each in replica_states(seen.apps[0], seen)]


def test_each_replica_has_a_state_and_the_app_that_of_the_best() -> None:
    """Those that shall exist, and those that have units; a replica that drains says so."""
    several = app("a", **SEVERAL)
    units = {**pair(A1S[0], "active"), **pair(A1S[1], "activating"), **pair(A1S[2], "active"), **pair(Replica("a", 7))}
    seen = facts(several, units=units, leaving={A1S[2]: 1.0})
    assert states(seen) == [(0, "running"), (1, "starting"), (2, "stopping")]
    assert state_of(several, seen) == (AppState.RUNNING, "")
    assert states(facts(app("a", min_replicas=2, **SEVERAL))) == [(0, "sleeping"), (1, "sleeping")]
    assert states(facts(app("a", wanted="stopped", **SEVERAL), units=units)) == []


def test_an_app_runs_while_one_replica_does() -> None:
    """And says which one does not, and why; without any it has failed."""
    several = app("a", min_replicas=2, **SEVERAL)
    failures = {A1S[1]: Failure(1, 0, "boom")}
    assert state_of(several, facts(several, units=pair(A1S[0], "active"), failures=failures)) == (
        AppState.RUNNING, "replica 1 is not: boom",
    )  # fmt: skip
    failures |= {A1S[0]: Failure(1, 0, "first")}
    assert state_of(several, facts(several, failures=failures)) == (AppState.FAILED, "first")
