"""The arithmetic of idleness, against simulated histories in which the true end of every request is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.plan.idle import (
    BUSY_STEPS,
    GRAIN_S,
    MIN_STEP_S,
    Busy,
    Clock,
    Idle,
    Traffic,
    decide,
    look,
    next_look,
    start,
)

NONE = Traffic(in_flight=0, queued=0, started=0, answered=0, last_start_age_s=None, longest_s=0.0)
SLACK = 0.02


@dataclass(frozen=True)
class Request:
    """One request of a simulated history."""

    begin: float
    length: float
    answered: bool = True  # a 502 or 504 is counted nowhere but in `stot`

    @property
    def end(self) -> float:
        return self.begin + self.length


def counters(requests: list[Request], now: float, restarts: tuple[float, ...] = ()) -> Traffic:
    """What HAProxy would say at ``now``: whole seconds of age, longest of the answered, zero after a restart.

    A restart cuts what is in flight. Ages are those of HAProxy's clock, truncated to seconds at both ends.
    """
    since = max([r for r in restarts if r <= now], default=-math.inf)
    known = [r for r in requests if since <= r.begin <= now]
    over = [r for r in known if r.end <= now]
    answered = [r for r in over if r.answered]
    last = max((r.begin for r in known), default=None)
    return Traffic(
        in_flight=len(known) - len(over),
        queued=0,
        started=len(known),
        answered=len(answered),
        last_start_age_s=None if last is None else float(math.floor(now) - math.floor(last)),
        longest_s=math.floor(max((r.length for r in answered), default=0) * 1000) / 1000,
        process=str(since),
        uptime_s=float(math.floor(now - since)) if since > -math.inf else math.inf,
    )


def true_end(requests: list[Request], now: float, restarts: tuple[float, ...], born: float) -> float:
    """When the last request that had begun by ``now`` ended; a restart of HAProxy ends those in flight."""
    ends = [born]
    for r in requests:
        if r.begin <= now:
            cut = min((t for t in restarts if r.begin < t < r.end), default=r.end)
            ends.append(min(r.end, cut))
    return max(ends)


def run(
    requests: list[Request], after: float, born: float, restarts: tuple[float, ...] = ()
) -> tuple[float, list[float]]:
    """The engine: look when told, until it says idle. Returns the stop and all looks."""
    clock, looks = start(born), []
    now = next_look(clock, after, born)
    while True:
        looks.append(now)
        clock = look(clock, counters(requests, now, restarts), now)
        match decide(clock, after, now):
            case Idle():
                return now, looks
            case Busy(when):
                assert when > now, "a look must never be asked for at once again"
                now = when
        assert len(looks) < 10_000


times = st.floats(0, 2000, allow_nan=False)
lengths = st.one_of(st.floats(0.001, 2), st.floats(0.001, 400))
histories = st.lists(st.builds(Request, times, lengths, st.booleans()), max_size=25)


@settings(max_examples=4 * settings().max_examples, deadline=None)
@given(histories, st.floats(1, 600), st.floats(0, 100), st.lists(times, max_size=3).map(sorted))
def test_never_early(requests, after, born, restarts):
    """No stop while a request is in flight, nor before the period has passed since the last one ended."""
    stop, _looks = run(requests, after, born, tuple(restarts))
    assert all(not r.begin <= stop < min([r.end, *(t for t in restarts if r.begin < t)]) for r in requests)
    assert stop >= true_end(requests, stop, tuple(restarts), born) + after - 1e-6


@settings(max_examples=4 * settings().max_examples, deadline=None)
@given(histories, st.floats(1, 600), st.floats(0, 100))
def test_late_at_most_by_the_documented_bound(requests, after, born):
    """Late by at most the longest request, never by more than one period or busy step; plus the clock's grain."""
    stop, _looks = run(requests, after, born)
    end = true_end(requests, stop, (), born)
    late = stop - end - after
    step = max(MIN_STEP_S, after / BUSY_STEPS)
    assert late <= max(after, step) + GRAIN_S + SLACK
    if all(r.answered for r in requests if r.begin <= stop):
        longest = max((r.length for r in requests if r.begin <= stop), default=0)
        assert late <= max(longest, step) + 2 * GRAIN_S + SLACK


@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(histories, st.floats(8, 600), st.floats(0, 100))
def test_looks_are_few(requests, after, born):
    """While nothing is in flight there is at most one look per request and period; while busy, eight per period."""
    stop, looks = run(requests, after, born)
    busy = sum(min(r.end, stop) - r.begin for r in requests if r.begin < stop)
    began = sum(1 for r in requests if r.begin < stop)
    assert len(looks) <= 2 + 2 * began + (stop - born) / after + busy / (after / BUSY_STEPS)


def test_an_app_that_is_never_called_stops_after_one_period_and_one_look():
    """No request at all: the first look is due one period after the start, and it is the last."""
    stop, looks = run([], 300, 1000)
    assert looks == [stop]
    assert 1300 <= stop <= 1300 + SLACK


def test_a_websocket_counts_until_it_closes():
    """`lastsess` counts from the start of a request: a connection open for 25 s is not idle 26 s after its start."""
    stop, _looks = run([Request(1, 25)], 8, 0)
    assert 26 + 8 <= stop <= 26 + 8 + 1 + GRAIN_S + SLACK


def test_a_request_that_times_out_unanswered_counts_until_its_end():
    """A 504 is missing in `ttime_max`: the first look after it must not take the last start for the last end."""
    requests = [Request(1, 0.1), Request(9, 7.9, answered=False)]
    stop, _looks = run(requests, 8, 0)
    assert stop >= 16.9 + 8


def test_counters_that_start_again_restart_the_clock():
    """After a restart of HAProxy, even with as many requests as before, nothing older than it is believed."""
    before = replace(NONE, started=5, answered=5, last_start_age_s=50.0, process="1@1")
    clock = look(start(0), before, 100)
    assert clock.since == pytest.approx(50 + GRAIN_S)
    again = replace(before, process="2@2", uptime_s=60.0, last_start_age_s=10.0)
    assert look(clock, again, 200).since == 190 + GRAIN_S
    fresh = replace(NONE, process="2@2", uptime_s=60.0)
    assert look(clock, fresh, 200).since == 140 + GRAIN_S


def test_queued_requests_are_work():
    """A request that waits in HAProxy's own queue keeps the app awake."""
    assert look(start(0), replace(NONE, queued=1), 1000).busy
    assert decide(look(start(0), replace(NONE, queued=1), 1000), 10, 1000) == Busy(1000 + MIN_STEP_S + 0.25)


def test_waking_up_does_not_count_as_idleness():
    """The counters outlive a sleep: an app that just woke is idle since then, not since its last request."""
    old = replace(NONE, started=9, answered=8, last_start_age_s=5000.0)
    slept = look(start(0), old, 4000)
    woken = start(9000, slept)
    assert look(woken, replace(old, last_start_age_s=10000.0), 9300).since == 9000
    assert isinstance(decide(look(woken, replace(old, last_start_age_s=10000.0), 9300), 300, 9300), Idle)


def test_unanswered_requests_of_the_past_do_not_delay_a_later_sleep():
    """What ended in a 502 before the sleep is known; only a new one makes the end uncertain."""
    old = replace(NONE, started=9, answered=8, last_start_age_s=50.0)
    clock = look(start(0), old, 100)
    assert clock.since == 100, "at first sight its end is unknown"
    assert look(clock, replace(old, last_start_age_s=90.0), 140).since == 100
    assert look(clock, replace(old, started=10, answered=9, last_start_age_s=20.0), 140).since == 120 + GRAIN_S


def test_a_request_answered_and_one_lost_between_two_looks_are_not_mixed_up():
    """One in flight at a look and answered later must not hide one that was lost meanwhile."""
    first = replace(NONE, in_flight=1, started=1, answered=0, last_start_age_s=0.0)
    clock: Clock = look(start(0), first, 10)
    then = replace(NONE, started=2, answered=1, last_start_age_s=9.0, longest_s=0.5)
    assert look(clock, then, 20).since == 20


@given(st.floats(0, 1e9), st.floats(1, 1e6))
def test_the_moment_that_was_waited_for_is_late_enough(since: float, after_s: float) -> None:
    """The timer's arithmetic and the decision's are one: else the engine would look again at once, and again."""
    clock = start(since)
    assert isinstance(decide(clock, after_s, since + after_s), Idle)
