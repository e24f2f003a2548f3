"""Decides when an app has been idle long enough, from HAProxy's counters alone and without polling. Pure.

What the counters say (measured on HAProxy 2.6 and 3.0):

- ``scur``: requests in flight: each HTTP/2 stream, each event stream, each WebSocket, each request that waits for a
  cold start, also one whose client has left while the app still works. ``qcur``: requests in HAProxy's own queue.
- ``lastsess``: whole seconds since a request was last *started*. HAProxy does not say when the last one *ended*.
- ``ttime_max``: the longest request that was *answered*. It does not include a request that ended in a 502 or 504;
  such a request shows as a difference between ``stot`` (started) and ``req_tot`` (answered). All of these counters
  outlive the app's sleep, but not HAProxy.

So while nothing is in flight, the last request ended at ``last start + longest request`` at the latest if every
request was answered, and at "now" at the latest otherwise. This bound is never before the true end, so an app is never
put to sleep early. It is put to sleep late by at most the longest request, and never by more than one scaledown period
(plus :data:`GRAIN_S`). The next look is the earliest moment at which the app could have been idle long enough. While
no app runs there is no look.

All times are seconds of one clock that the caller chooses; it must not run backwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

GRAIN_S = 1.0
"""Seconds by which the true age may be less than ``lastsess``, which counts whole seconds of HAProxy's clock."""
BUSY_STEPS = 8
"""Looks per scaledown period while requests are in flight. A stop may be late by the time between two of them."""
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
    process: str = ""  # the HAProxy process that counted; a new process counts from 0
    uptime_s: float = float("inf")  # seconds for which that process has run
    uncounted: int = 0  # of those started, the ones that were answered and keep no app awake (ingress/no_wake.py)

    def __add__(self, other: Traffic) -> Traffic:
        """Return the counters of both servers together, as if one had all requests; the same process counted them."""
        ages = [each.last_start_age_s for each in (self, other) if each.last_start_age_s is not None]
        return replace(
            self,
            in_flight=self.in_flight + other.in_flight,
            queued=self.queued + other.queued,
            started=self.started + other.started,
            uncounted=self.uncounted + other.uncounted,
            answered=self.answered + other.answered,
            last_start_age_s=min(ages, default=None),
            longest_s=max(self.longest_s, other.longest_s),
        )

    @property
    def busy(self) -> bool:
        """True if a request is being answered or waits in the queue."""
        return self.in_flight > 0 or self.queued > 0

    @property
    def counting(self) -> int:
        """The number of requests that were started and keep the app awake.

        Between two moments at which nothing is in flight, it differs if one was started.
        """
        return self.started - self.uncounted

    @property
    def unanswered(self) -> int:
        """The number of requests, retries included, that ended in a 502 or 504.

        Valid only while nothing is in flight: otherwise requests under way are counted too.
        """
        return self.started - self.answered


@dataclass(frozen=True)
class Clock:
    """The state that is kept of a running app between two looks. Made by :func:`start`."""

    born: float  # when the app began to run; it cannot have been idle since an earlier moment
    since: float  # the latest moment from which the app can have been idle; meaningless while busy
    busy: bool = False
    seen: Traffic | None = None
    unanswered: int = 0  # Traffic.unanswered at the last look that found nothing in flight


@dataclass(frozen=True)
class Busy:
    """A request is in flight, or ended too recently."""

    next_look: float


@dataclass(frozen=True)
class Idle:
    """Nothing has been in flight since ``since``, which is at least the given period ago."""

    since: float


def start(now: float, before: Clock | None = None) -> Clock:
    """Return the clock of an app that has just begun to run, or that the daemon found running when it started.

    ``before``: the app's clock from before its sleep. The counters continue during a sleep, so the last values seen
    are still needed.
    """
    if before is None:
        return Clock(born=now, since=now)
    return Clock(born=now, since=now, seen=before.seen, unanswered=before.unanswered)


def look(clock: Clock, traffic: Traffic, now: float) -> Clock:
    """Return the clock after one look at the counters."""
    seen = clock.seen
    same = seen is not None and seen.process == traffic.process
    lost = clock.unanswered if same else 0
    if traffic.busy:
        return replace(clock, busy=True, since=now, seen=traffic, unanswered=lost)
    if seen is not None and same and not clock.busy and traffic.counting == seen.counting:
        ended = clock.since  # nothing new
    elif traffic.unanswered != lost:
        ended = now  # at least one request ended without an answer: no counter holds its length
    else:
        # requests that an earlier HAProxy had in flight ended with that process
        ended = clock.since if same else now - traffic.uptime_s + GRAIN_S
        if traffic.last_start_age_s is not None:
            ended = max(ended, now - traffic.last_start_age_s + traffic.longest_s + GRAIN_S)
    since = max(clock.born, min(now, ended))
    return replace(clock, busy=False, since=since, seen=traffic, unanswered=traffic.unanswered)


def next_look(clock: Clock, after_s: float, now: float) -> float:
    """Return the earliest moment at which the app can have been idle for ``after_s`` seconds.

    The daemon's loop sets its one timer to it.
    """
    if clock.busy:
        return now + max(MIN_STEP_S, after_s / BUSY_STEPS)
    return max(now, clock.since + after_s) + _MARGIN_S


def idle_s(clock: Clock, traffic: Traffic, now: float) -> float | None:
    """Return the least number of seconds for which nothing has been in flight; ``None`` while something is.

    The clock is not changed.
    """
    seen = look(clock, traffic, now)
    return None if seen.busy else now - seen.since


def decide(clock: Clock, after_s: float, now: float) -> Busy | Idle:
    """Decide whether the app has been idle for ``after_s`` seconds. Call it right after :func:`look`.

    A caller that has several steps for an idle app asks once per step, with the step's own period.
    """
    if not clock.busy and now >= clock.since + after_s:  # the sum, as in next_look: a difference may round otherwise
        return Idle(clock.since)
    return Busy(next_look(clock, after_s, now))
