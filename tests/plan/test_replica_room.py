"""For how many replicas the machine has room: in memory, and in the network of apps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flyted.contract.errors import InvalidInput
from flyted.contract.names import Replica
from flyted.contract.status import AppState
from flyted.net.plan import FIRST, LAST
from flyted.plan.facts import Capacity, Facts, StoredApp
from flyted.plan.reconcile import Plan, reconcile
from flyted.plan.replica_room import KEPT, NETWORKS, check, room, that_fit
from flyted.plan.scaling import LOOK_S, Scale
from flyted.plan.states import state_of
from flyted.plan.unit_index import indexed
from tests.values import DOMAIN, MACHINE, app, facts, pair, quiet, spec

GIB = 1 << 30
NOW = 1000.0
A = [Replica("a", 1, number) for number in range(70)]
MANY = app(max_replicas=64, concurrency=1, memory_bytes=4 * GIB)


def seen(*, requests: int, serving: int = 1, at: float = NOW, more: dict[str, Any] | None = None) -> Facts:
    """An app whose first replicas serve, and its requests."""
    units = {name: fact for replica in A[:serving] for name, fact in pair(replica, "active").items()}
    traffic = {each.server: quiet(0, in_flight=0) for each in A[:serving]}
    traffic[A[0].server] = quiet(0, in_flight=requests)
    scales = {"a": Scale(1, frozenset(range(1, serving)), needed=serving, seen_at=at - LOOK_S)}
    values: dict[str, Any] = {"units": units, "traffic": traffic, "scales": scales, "memory_bytes": 24 * GIB}
    return facts(MANY, **{**values, **(more or {})})


def plan(given: Facts, now: float = NOW) -> Plan:
    """One pass."""
    return reconcile(given, {}, DOMAIN, now)


def test_the_networks_are_those_of_the_bridge() -> None:
    """The numbers of flyted/net."""
    assert NETWORKS == LAST - FIRST + 1


def test_how_many_fit_into_the_memory() -> None:
    """One does in any case: a limit may be more than the machine has."""
    assert that_fit(spec(memory_bytes=4 * GIB), 24 * GIB) == 6
    assert that_fit(spec(memory_bytes=5 * GIB), 24 * GIB) == 4
    assert that_fit(spec(memory_bytes=30 * GIB), 24 * GIB) == 1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            {"min_replicas": 3, "memory_bytes": 9 * GIB},
            "needs 3 × memory=9.0 GiB, together 27.0 GiB, and this machine",
        ),
        ({"min_replicas": 2, "memory_bytes": 8 * GIB, "gpu_count": 2}, "needs 2 × 2 × GPU, together 4, and this mach"),
    ],
)
def test_a_minimum_that_never_fits_is_refused(asked: dict[str, Any], words: str) -> None:
    """With its numbers; nothing of it could run."""
    with pytest.raises(InvalidInput, match=words) as refused:
        check(spec(max_replicas=5, **asked), MACHINE, gpus=3)
    assert "Scaling(replicas=" in refused.value.hint


@pytest.mark.parametrize(
    "asked",
    [
        {"min_replicas": 3, "memory_bytes": 8 * GIB},
        {"min_replicas": 0, "memory_bytes": 30 * GIB},
        {"min_replicas": 1, "memory_bytes": 30 * GIB},
        {"min_replicas": 5},
        {"min_replicas": 3, "gpu_count": 1},
        {"min_replicas": 1, "gpu_count": 4},
    ],
)
def test_what_may_run_is_not_refused(asked: dict[str, Any]) -> None:
    """A maximum, one replica, and what the file does not say; replicas with a GPU each may share it."""
    machine = MACHINE if "memory_bytes" in asked else Capacity(4 * GIB, 2)
    check(spec(max_replicas=5, **asked), machine, gpus=2)


def test_scaling_stops_at_what_the_machine_has() -> None:
    """(0, 1000) with one request each is 64 replicas in the file, and six of 4 GiB on a machine of 24."""
    first = plan(seen(requests=64))
    assert first.scales["a"].extra == set(range(1, 6))
    given = seen(requests=64, serving=6)
    last = plan(given)
    assert last.scales["a"].extra == set(range(1, 6))
    assert last.actions == ()
    shown = facts(MANY, units=given.units, scales=last.scales)
    assert state_of(MANY, shown) == (
        AppState.RUNNING,
        "its load needs 64 replicas, and it has 6: each may take 4.0 GiB, and this machine has 24.0 GiB",
    )
    rests = plan(seen(requests=2, serving=6, more={"scales": last.scales}), NOW + LOOK_S)
    assert rests.scales["a"].limited == ""


def test_scaling_stops_at_what_is_free_now() -> None:
    """Other programs have the rest; replicas that start have not taken theirs yet."""
    free = {"free_bytes": 9 * GIB}
    first = plan(seen(requests=5, more=free))
    assert first.scales["a"].extra == {1, 2}
    assert first.scales["a"].limited == "each may take 4.0 GiB, and 9.0 GiB of memory are free"
    starting = {**pair(A[0], "active"), **pair(A[1], "activating"), **pair(A[2], "activating")}
    later = {**free, "units": starting, "scales": first.scales}
    again = plan(seen(requests=5, more=later), NOW + LOOK_S)
    assert again.scales["a"].extra == {1, 2}
    assert again.scales["a"].limited == "each may take 4.0 GiB, and 1.0 GiB of memory are free"


def both(a: Facts, b: StoredApp, units: dict[str, Any], requests: int) -> Facts:
    """The facts of an app together with those of another one, whose first replica serves."""
    first = Replica(b.key.id, 1, 0)
    traffic = {**a.traffic, first.server: quiet(0, in_flight=requests)}
    scales = {**a.scales, b.key.id: Scale(1, frozenset(), needed=1, seen_at=NOW - LOOK_S)}
    return replace(a, apps=(*a.apps, b), units=indexed({**a.units, **units}), traffic=traffic, scales=scales)


def test_two_apps_do_not_get_the_same_memory() -> None:
    """Both need another replica in one pass, and there is room for one."""
    other = replace(app("b", max_replicas=64, concurrency=1, memory_bytes=4 * GIB), pool=8)
    one = seen(requests=2, more={"free_bytes": 5 * GIB})
    scales = plan(both(one, other, pair(Replica("b", 1), "active"), 2)).scales
    assert sorted(len(scales[each].extra) for each in "ab") == [0, 1]
    assert {scales[each].limited for each in "ab"} == {"", "each may take 4.0 GiB, and 1.0 GiB of memory are free"}


def test_what_other_apps_start_has_not_taken_its_memory_yet() -> None:
    """The wake of another app, a moment ago."""
    other = replace(app("b", max_replicas=64, concurrency=1, memory_bytes=4 * GIB), pool=8)
    one = seen(requests=2, more={"free_bytes": 5 * GIB})
    scale = plan(both(one, other, pair(Replica("b", 1), "activating"), 0)).scales["a"]
    assert (scale.extra, scale.limited) == (frozenset(), "each may take 4.0 GiB, and 1.0 GiB of memory are free")


@pytest.mark.parametrize("units", [{}, pair(Replica("b", 1, 1), "inactive")], ids=["no units", "a socket"])
def test_what_other_apps_were_given_before_is_still_theirs(units: dict[str, Any]) -> None:
    """Another replica of theirs was added in an earlier pass, and its service has not begun to start."""
    other = replace(app("b", max_replicas=64, concurrency=1, memory_bytes=4 * GIB), pool=8)
    both_now = both(
        seen(requests=2, more={"free_bytes": 5 * GIB}), other, {**pair(Replica("b", 1), "active"), **units}, 2
    )
    scales = {**both_now.scales, "b": Scale(1, frozenset({1}), needed=2, seen_at=NOW - LOOK_S)}
    scale = plan(replace(both_now, scales=scales)).scales["a"]
    assert (scale.extra, scale.limited) == (frozenset(), "each may take 4.0 GiB, and 1.0 GiB of memory are free")


def test_scaling_leaves_networks_to_others() -> None:
    """Each replica of any app has a port of one bridge: the last ones are for deploys, wakes and builds."""
    others = [Replica("b", 1, number) for number in range(NETWORKS - KEPT - 3)]
    units = {name: fact for each in others for name, fact in pair(each, "inactive").items()}
    decided = plan(seen(requests=9, more={"units": {**units, **pair(A[0], "active")}, "memory_bytes": 999 * GIB}))
    assert decided.scales["a"].extra == {1, 2}
    assert decided.scales["a"].limited == "the network of apps has no place left (1021)"


def test_a_replica_that_drains_still_has_its_room() -> None:
    """It runs, with its memory and its network: it is taken back whatever is free."""
    drains = {"leaving": {A[1]: NOW - 1}, "scales": {"a": Scale(1)}, "free_bytes": 0}
    decided = plan(seen(requests=3, serving=2, more=drains))
    assert decided.scales["a"].extra == {1}
    assert decided.actions == ()


def test_nothing_limits_what_is_not_known() -> None:
    """A machine that does not tell its memory."""
    assert room(spec(), 1, 0, 0, facts()) == (NETWORKS - KEPT, "the network of apps has no place left (1021)")
