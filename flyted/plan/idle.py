"""When an app has been idle long enough, from HAProxy's counters alone and without polling. Pure.

What the counters say (measured on HAProxy 2.6 and 3.0):

- ``scur``: requests in flight: each HTTP/2 stream, each event stream, each WebSocket, each request that waits for a
  cold start, also one whose client has left while the app still works. ``qcur``: held in HAProxy's own queue.
- ``lastsess``: whole seconds since a request was last *started*. When the last one *ended* is not told.
- ``ttime_max``: the longest request that was *answered*. One that ended in a 502 or 504 is not in it; it shows as a
  difference between ``stot`` (started) and ``req_tot`` (answered). Both outlive the app's sleep, not HAProxy.

So while nothing is in flight, the last end is at most ``last start + longest request`` when every request was
answered, and at most "now" otherwise. That bound is never before the true end, hence an app is never put to sleep
early; it is late by at most the longest request and never by more than one scaledown period (plus :data:`GRAIN_S`).
The next look is the earliest moment at which the app could have been idle long enough; no running app, no look.

All times are seconds of one clock that the caller chooses; it must not run backwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

GRAIN_S = 1.0
"""``lastsess`` counts whole seconds of HAProxy's clock: the true age may be up to this much less."""
BUSY_STEPS = 8
"""While requests are in flight there is a look each eighth of the scaledown period: so late a stop may come."""
MIN_STEP_S = 1.0
_MARGIN_S = 0.01  # a timer may fire a little early


@dataclass(frozen=True)
class Traffic:
    """The counters of one server at one moment."""

    in_flight: int
    queued: int
    started: int
    answered: int
    last_start_age_s: float | None  # None: never
    longest_s: float
    process: str = ""  # which HAProxy process counted: a new one counts from 0
    uptime_s: float = float("inf")  # for how long it has

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or waits to be."""
        return self.in_flight > 0 or self.queued > 0

    @property
    def unanswered(self) -> int:
        """Requests (and tries of them) that ended in a 502 or 504. Only while not busy: else some are under way."""
        return self.started - self.answered


@dataclass(frozen=True)
class Clock:
    """What is remembered of a running app between two looks. Made by :func:`start`."""

    born: float  # when the app began to run: it is not idle for longer than that
    since: float  # idle since at most then; meaningless while busy
    busy: bool = False
    seen: Traffic | None = None
    unanswered: int = 0  # at the last look that found nothing in flight


@dataclass(frozen=True)
class Busy:
    """Something is in flight, or was too recently."""

    next_look: float


@dataclass(frozen=True)
class Idle:
    """Nothing has been in flight since then, for at least the period that was asked about."""

    since: float


def start(now: float, before: Clock | None = None) -> Clock:
    """The clock of an app that has just begun to run (or was found running when the daemon started).

    ``before``: its clock from before it slept: HAProxy's counters go on, so what was seen stays worth knowing.
    """
    if before is None:
        return Clock(born=now, since=now)
    return Clock(born=now, since=now, seen=before.seen, unanswered=before.unanswered)


def look(clock: Clock, traffic: Traffic, now: float) -> Clock:
    """The clock after one look at the counters."""
    seen = clock.seen
    same = seen is not None and seen.process == traffic.process
    lost = clock.unanswered if same else 0
    if traffic.busy:
        return replace(clock, busy=True, since=now, seen=traffic, unanswered=lost)
    if seen is not None and same and not clock.busy and traffic.started == seen.started:
        ended = clock.since  # nothing new
    elif traffic.unanswered != lost:
        ended = now  # at least one request ended without an answer: its length is in no counter
    else:
        # what an earlier HAProxy had in flight ended with it
        ended = clock.since if same else now - traffic.uptime_s + GRAIN_S
        if traffic.last_start_age_s is not None:
            ended = max(ended, now - traffic.last_start_age_s + traffic.longest_s + GRAIN_S)
    since = max(clock.born, min(now, ended))
    return replace(clock, busy=False, since=since, seen=traffic, unanswered=traffic.unanswered)


def next_look(clock: Clock, after_s: float, now: float) -> float:
    """The earliest moment at which the app can have been idle for ``after_s``; for the engine's one timer."""
    if clock.busy:
        return now + max(MIN_STEP_S, after_s / BUSY_STEPS)
    return max(now, clock.since + after_s) + _MARGIN_S


def idle_s(clock: Clock, traffic: Traffic, now: float) -> float | None:
    """For how long at least nothing has been in flight; ``None`` while something is. Changes no clock."""
    seen = look(clock, traffic, now)
    return None if seen.busy else now - seen.since


def decide(clock: Clock, after_s: float, now: float) -> Busy | Idle:
    """Whether the app has been idle for ``after_s``, judged right after :func:`look`.

    The idle ladder asks once per rung, with the rung's own period.
    """
    if not clock.busy and now >= clock.since + after_s:  # as next_look counts: a difference may round the other way
        return Idle(clock.since)
    return Busy(next_look(clock, after_s, now))
