"""How many replicas an app needs, from counters alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.app import AppSpec
from flyted.plan.scaling import (
    LOOK_S,
    SLOW_LOOK_S,
    Counted,
    Scale,
    added,
    by_cpu,
    dropped,
    looked,
    missing,
    scales,
    surplus,
    to_look_at,
    watched,
)
from tests.values import spec

AT_ONCE = spec(max_replicas=4, concurrency=2, scaledown_after_s=10.0)
A_SECOND = spec(max_replicas=4, request_rate=10, scaledown_after_s=10.0)
BY_CPU = spec(max_replicas=4, scaledown_after_s=10.0)


def seen(scale: Scale, which: AppSpec, *counted: Counted, now: float, cores: int = 8) -> Scale:
    """One look at replicas 0, 1, …"""
    return looked(scale, which, dict(enumerate(counted)), now, cores)


def test_what_decides_about_the_number() -> None:
    """The metric, else the CPU time; nothing where the number is fixed."""
    assert (scales(AT_ONCE), by_cpu(AT_ONCE), by_cpu(A_SECOND), by_cpu(BY_CPU)) == (True, False, False, True)
    assert scales(spec(min_replicas=2, max_replicas=3))
    assert not scales(spec(min_replicas=3, max_replicas=3))
    assert not scales(spec())
    assert not by_cpu(spec())


@pytest.mark.parametrize(
    ("current", "least", "needed"), [(0, 0, 1), (2, 0, 1), (3, 0, 2), (7, 0, 4), (99, 0, 4), (0, 2, 2), (5, 2, 3)]
)
def test_requests_at_once(current: int, least: int, needed: int) -> None:
    """As many replicas as are needed for these, at the first look; never fewer than the least, nor more than most."""
    which = spec(min_replicas=least, max_replicas=4, concurrency=2)
    found = seen(Scale(1), which, Counted(current, 0, 5), now=100.0)
    assert found.needed == needed
    assert missing(found, which) == needed - max(1, least)


def test_requests_are_counted_at_all_replicas_together() -> None:
    """However they are spread."""
    found = seen(Scale(1, frozenset({1})), AT_ONCE, Counted(4, 0, 9), Counted(1, 0, 9), now=100.0)
    assert (found.needed, missing(found, AT_ONCE)) == (3, 1)


@pytest.mark.parametrize(("started", "needed"), [(0, 1), (10, 1), (11, 1), (12, 2), (35, 4), (1000, 4)])
def test_requests_a_second(started: int, needed: int) -> None:
    """Those between two looks, whether they run still or not; a rate is never steady, so a little more is none."""
    first = seen(Scale(1), A_SECOND, Counted(0, 0, 500), now=100.0)
    assert first.needed == 1, "how many came before is not known"
    assert seen(first, A_SECOND, Counted(0, 0, 500 + started), now=101.0).needed == needed


def test_a_haproxy_that_began_anew_counts_from_nothing() -> None:
    """Its counter is smaller than before."""
    first = seen(Scale(1), A_SECOND, Counted(0, 0, 500), now=100.0)
    assert seen(first, A_SECOND, Counted(0, 0, 25), now=101.0).needed == 3


def test_a_replica_that_was_not_there_adds_no_rate() -> None:
    """What its server counted before is not of this second."""
    first = seen(Scale(1), A_SECOND, Counted(0, 0, 5), now=100.0)
    assert seen(first, A_SECOND, Counted(0, 0, 6), Counted(0, 0, 9000), now=101.0).needed == 1


@pytest.mark.parametrize(
    ("used", "cores", "limit", "needed"),
    [(0.1, 8, 0, 1), (0.8, 8, 0, 1), (1.0, 8, 0, 2), (1.0, 1, 0, 1), (0.5, 1, 0.5, 2), (2.0, 2, 4, 1), (9.0, 8, 0, 4)],
)
def test_cpu_time(used: float, cores: int, limit: float, needed: int) -> None:
    """Four fifths of what one may use: its quota, or one processor; not more than the machine has processors for."""
    which = spec(max_replicas=4, cpu_cores=limit)
    first = seen(Scale(1), which, Counted(1, 0, 5, 7.0), now=100.0, cores=cores)
    assert first.needed == 1
    assert seen(first, which, Counted(1, 0, 6, 7.0 + used), now=101.0, cores=cores).needed == needed


def test_the_cpu_time_of_a_start_is_no_load() -> None:
    """Nor is that of an app which nobody asks for anything."""
    first = seen(Scale(1), BY_CPU, Counted(1, 0, 5, None), now=100.0)
    second = seen(first, BY_CPU, Counted(1, 0, 5, 3.0), now=101.0)
    assert second.needed == 1, "it began to serve in between"
    idle = seen(second, BY_CPU, Counted(0, 0, 5, 9.0), now=102.0)
    assert idle.needed == 1
    assert seen(second, BY_CPU, Counted(1, 0, 5, 9.0), now=102.0).needed == 4


@pytest.mark.parametrize("which", [AT_ONCE, A_SECOND, BY_CPU])
def test_requests_that_wait_in_the_ingress_need_another_replica(which: AppSpec) -> None:
    """Whatever the metric is."""
    assert seen(Scale(1), which, Counted(1, 1, 5), now=100.0).needed == 2
    assert seen(Scale(1, frozenset({1, 2, 3})), which, Counted(1, 1, 5), now=100.0).needed == 4


def test_looks_are_a_second_apart() -> None:
    """Passes come whenever a unit changes: a rate over a millisecond says nothing."""
    first = seen(Scale(1), A_SECOND, Counted(0, 0, 0), now=100.0)
    assert seen(first, A_SECOND, Counted(0, 0, 5), now=100.1) is first
    assert first.next_look == 101.0


def test_fewer_only_after_a_whole_scaledown_period() -> None:
    """To as many as were needed most in it; a moment in which all are needed begins it anew."""
    scale, now = added(Scale(1), {1, 2, 3}), 100.0
    for current in (8, 1, 1, 4, 1):
        scale, now = seen(scale, AT_ONCE, Counted(current, 0, 5), now=now), now + 1
        assert surplus(scale, AT_ONCE, now) == 0
    for _ in range(7):
        scale, now = seen(scale, AT_ONCE, Counted(0, 0, 5), now=now), now + 1
    assert surplus(scale, AT_ONCE, now - 1.1) == 0
    assert surplus(scale, AT_ONCE, now) == 2, "two were needed in between"
    scale = dropped(scale, {2, 3})
    assert surplus(scale, AT_ONCE, now) == 0, "another period begins"
    for _ in range(12):
        scale, now = seen(scale, AT_ONCE, Counted(0, 0, 5), now=now), now + 1
    assert surplus(scale, AT_ONCE, now) == 1


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), max_size=60),
    st.integers(0, 3), st.integers(0, 5), st.integers(1, 5),
)  # fmt: skip
def test_the_limits_hold_whatever_comes(load: list[tuple[int, int]], least: int, more: int, each: int) -> None:
    """Between the least and the most; as many as there are requests for, at each look."""
    which = spec(min_replicas=least, max_replicas=max(1, least + more), concurrency=each, scaledown_after_s=5.0)
    scale, now = Scale(1), 0.0
    for current, seconds in load:
        now += seconds
        scale = seen(scale, which, Counted(current, 0, 0), now=now)
        scale = added(scale, sorted(set(range(max(1, least), 9)) - scale.extra)[: missing(scale, which)])
        scale = dropped(scale, sorted(scale.extra)[: surplus(scale, which, now)])
        running = max(1, least) + len(scale.extra)
        assert max(1, least) <= running <= which.max_replicas
        assert running >= min(-(-current // each), which.max_replicas) or seconds == 0


@pytest.mark.parametrize(
    ("which", "load"),
    [
        (AT_ONCE, {"": 3}),
        (A_SECOND, {"/rate": 12}),
        (BY_CPU, {"": 1}),
        (spec(min_replicas=2, max_replicas=4, concurrency=3), {"": 7}),
        (spec(min_replicas=3, max_replicas=4, request_rate=10), {"/rate": 32}),
    ],
)
def test_an_app_with_enough_replicas_is_watched_and_after_another_look_rests(
    which: AppSpec, load: dict[str, int]
) -> None:
    """The load that is watched is the least one that needs another replica."""
    scale = seen(Scale(1), which, Counted(0, 0, 5, 1.0), now=100.0)
    assert (scale.rests, watched(scale, which)) == (False, load)
    scale = seen(scale, which, Counted(0, 0, 5, 1.0), now=101.0)
    assert (scale.rests, watched(scale, which)) == (True, load)
    assert seen(scale, which, Counted(0, 0, 5, 1.0), now=500.0).rests, "another event asked for a pass"
    again = to_look_at(scale)
    assert (again.rests, watched(again, which)) == (False, {})
    (kind, number), *_ = load.items()
    for more in (0, 1) if which is not BY_CPU else ():
        counted = Counted(0, 0, 4 + number + more) if kind else Counted(number - 1 + more, 0, 5)
        now = seen(again, which, counted, now=102.0)
        assert bool(missing(now, which)) is bool(more)
        assert now.enough == 1 - more


def test_an_app_with_more_than_its_least_replicas_is_looked_at() -> None:
    """They are to go one day; until then, nothing is watched."""
    scale = Scale(1, frozenset({1}))
    for second in range(5):
        scale = seen(scale, AT_ONCE, Counted(0, 0, 5), Counted(0, 0, 5), now=100.0 + second)
    assert (scale.rests, watched(scale, AT_ONCE), scale.pause) == (False, {}, LOOK_S)


def test_requests_that_cost_little_cpu_time_are_looked_at_less_often() -> None:
    """Up to ten seconds apart; the first costly ones bring the pace back."""
    scale, now, pauses = Scale(1), 100.0, []
    for _ in range(7):
        scale = seen(scale, BY_CPU, Counted(1, 0, 5, 1.0), now=now)
        now = scale.next_look
        pauses.append(scale.pause)
    assert pauses == [1.0, 2.0, 4.0, 8.0, SLOW_LOOK_S, SLOW_LOOK_S, SLOW_LOOK_S]
    assert not scale.rests
    busy = seen(scale, BY_CPU, Counted(1, 0, 5, 1.0 + 0.7 * SLOW_LOOK_S), now=now)
    assert (busy.needed, busy.pause) == (1, LOOK_S)
    assert seen(scale, BY_CPU, Counted(1, 0, 5, None), now=now).pause == LOOK_S, "it does not serve"
