"""Decides how many replicas an app needs, from what its ingress and its units count. Pure.

An app has at least its minimum of replicas, or its first one, which sleeps when nobody asks for it; load adds others
up to its maximum. Its metric says how much one replica is for (flyte/app/_types.py, ``Scaling``): requests at once, or
requests a second. Without a metric it is the CPU time of its units: another replica starts when those that run use
four fifths of what they may. More replicas than the processors can serve are not started by that.

More are needed at once, fewer only once no look of a whole ``scaledown_after`` has found that more were: so a pause
between two bursts costs no start.

Looks are a second apart while more than the least replicas run or are needed. Then HAProxy is told the load from which
on others are needed (:func:`watched`), and after another look there is none until HAProxy has seen that load: neither
at an app that sleeps nor at one that has what it needs. No event tells of CPU time. So an app that is scaled by it is
looked at while it has requests; up to ten seconds apart if it uses little, and not at all without requests.

Times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil

from flyted.contract.app import AppSpec
from flyted.plan.ingress.state import RATE

LOOK_S = 1.0
"""Seconds between two looks at the counters."""
SLOW_LOOK_S = 10.0
"""The same, at most, while requests cost little CPU time."""
AT_REST = 2
"""After so many looks that needed no other replica there is no further one: HAProxy watched for the last of them."""
GPUS_S = 10.0
"""Seconds after which an app that needs another GPU looks again whether there is one."""
BUSY_CPU = 0.8
TOLERANCE = 0.1
"""The part of a replica by which a rate, which is never steady, may exceed what the replicas are for."""
_MARGIN_S = 0.05  # a timer may fire a little early


@dataclass(frozen=True)
class Counted:
    """The counters of one replica. ``current``: requests that run or wait, ``queued`` of these in the ingress.

    ``started``: all requests so far. ``cpu_s``: the CPU time of its service; ``None`` if it does not serve, since a
    start takes CPU time that says nothing about load.
    """

    current: int
    queued: int
    started: int
    cpu_s: float | None = None


@dataclass(frozen=True)
class Scale:
    """The replicas that an app runs beyond its least ones, and what was seen of its load; for one revision.

    ``extra``: the numbers of these replicas. ``needed``: the replicas that the last look found necessary, of which
    ``most`` is the highest number since ``fewer_since``, from when on fewer than there are were needed. ``seen``: the
    counters at that look, by the replicas' numbers. ``no_gpu_at``: when there was last no GPU for another one.
    ``limited``: why fewer run than are needed, for people. ``enough``: how many looks in a row, up to ``AT_REST``,
    have needed no other replica. ``pause``: seconds until the next look.
    """

    revision: int
    extra: frozenset[int] = frozenset()
    needed: int = 0
    most: int = 0
    fewer_since: float | None = None
    seen_at: float = float("-inf")
    seen: Mapping[int, Counted] = field(default_factory=dict)
    no_gpu_at: float = float("-inf")
    limited: str = ""
    enough: int = 0
    pause: float = LOOK_S

    @property
    def next_look(self) -> float:
        """The moment of the next look at the counters, if there is one."""
        return self.seen_at + self.pause

    @property
    def rests(self) -> bool:
        """True if there is no other look until HAProxy has seen more load."""
        return self.enough >= AT_REST


def least_of(spec: AppSpec) -> int:
    """Return how many replicas an app has in any case; without a minimum, the one of them may sleep."""
    return max(1, spec.min_replicas)


def scales(spec: AppSpec) -> bool:
    """Report whether the number of an app's replicas depends on its load."""
    return spec.max_replicas > least_of(spec)


def by_cpu(spec: AppSpec) -> bool:
    """Report whether the CPU time of its units decides about an app's replicas."""
    return scales(spec) and not spec.concurrency and not spec.request_rate


def watched(scale: Scale, spec: AppSpec) -> dict[str, int]:
    """Return the load from which on HAProxy shall tell flyted of it; nothing while the app is looked at anyway.

    The keys follow the pool's name in HAProxy's table: "" for requests at once, :data:`RATE` for those of a second.
    """
    if not scale.enough:
        return {}
    if spec.concurrency:
        return {"": spec.concurrency * least_of(spec) + 1}
    if spec.request_rate:
        return {RATE: int(spec.request_rate * (least_of(spec) + TOLERANCE)) + 1}
    return {"": 1}


def to_look_at(scale: Scale) -> Scale:
    """Return the scale of an app that is to be looked at again: HAProxy has seen more load."""
    return replace(scale, enough=0, pause=LOOK_S)


def looked(scale: Scale, spec: AppSpec, counted: Mapping[int, Counted], now: float, cores: int) -> Scale:
    """Return the scale after a look at the counters of the replicas, by number; the same before a look is due."""
    if now < scale.next_look - _MARGIN_S:
        return scale
    running = least_of(spec) + len(scale.extra)
    needed = min(max(_needed(scale, spec, counted, now, cores, running), least_of(spec)), spec.max_replicas)
    least = needed <= least_of(spec) and not scale.extra
    rests = least and not (by_cpu(spec) and _asked(scale, counted))
    slow = least and not rests and _little(scale, spec, counted, now, cores)
    after = replace(
        scale, needed=needed, seen_at=now, seen=dict(counted), enough=min(scale.enough + 1, AT_REST) if rests else 0,
        pause=min(2 * scale.pause, SLOW_LOOK_S) if slow else LOOK_S,
    )  # fmt: skip
    if needed >= running:
        return replace(after, fewer_since=None, most=0)
    since = now if scale.fewer_since is None else scale.fewer_since
    return replace(after, fewer_since=since, most=max(scale.most, needed))


def missing(scale: Scale, spec: AppSpec) -> int:
    """Return how many replicas are to be added."""
    return max(0, scale.needed - least_of(spec) - len(scale.extra))


def surplus(scale: Scale, spec: AppSpec, now: float) -> int:
    """Return how many replicas are to be taken away: those that no look of a whole scaledown period has needed."""
    if scale.fewer_since is None or now - scale.fewer_since < spec.scaledown_after_s:
        return 0
    return max(0, len(scale.extra) - max(0, scale.most - least_of(spec)))


def unlimited(scale: Scale) -> Scale:
    """Return the scale of an app that has as many replicas as it needs."""
    return replace(scale, limited="") if scale.limited else scale


def added(scale: Scale, numbers: Iterable[int]) -> Scale:
    """Return the scale with these replicas."""
    return replace(scale, extra=scale.extra | frozenset(numbers), fewer_since=None, most=0)


def dropped(scale: Scale, numbers: Iterable[int]) -> Scale:
    """Return the scale without these replicas. Others come after another look, go after another scaledown period."""
    return replace(scale, extra=scale.extra - frozenset(numbers), needed=0, fewer_since=None, most=0)


def _needed(scale: Scale, spec: AppSpec, counted: Mapping[int, Counted], now: float, cores: int, running: int) -> int:
    """Return how many replicas the load needs, whatever the limits."""
    current = sum(each.current for each in counted.values())
    more = running + 1 if any(each.queued for each in counted.values()) else 0
    if spec.concurrency:
        return max(more, ceil(current / spec.concurrency))
    if spec.request_rate:
        return max(more, ceil(_started(scale, counted) / _seconds(scale, now) / spec.request_rate - TOLERANCE))
    if not _asked(scale, counted):
        return 0  # what it computes is for nobody who waits
    used = _cpu_s(scale, counted) / _seconds(scale, now) / (_share(spec, cores) * BUSY_CPU)
    return max(more, min(ceil(used - TOLERANCE), max(1, int(cores / _share(spec, cores)))))


def _seconds(scale: Scale, now: float) -> float:
    return max(now - scale.seen_at, _MARGIN_S)


def _share(spec: AppSpec, cores: int) -> float:
    return min(spec.cpu_cores or 1.0, float(cores))


def _started(scale: Scale, counted: Mapping[int, Counted]) -> float:
    return _increase((n, scale.seen[n].started, each.started) for n, each in counted.items() if n in scale.seen)


def _asked(scale: Scale, counted: Mapping[int, Counted]) -> bool:
    """Report whether there are requests, or have been since the last look."""
    return any(each.current for each in counted.values()) or _started(scale, counted) > 0


def _cpu_s(scale: Scale, counted: Mapping[int, Counted]) -> float:
    return _increase(
        (number, before.cpu_s, each.cpu_s)
        for number, each in counted.items()
        if (before := scale.seen.get(number)) is not None and before.cpu_s is not None and each.cpu_s is not None
    )


def _little(scale: Scale, spec: AppSpec, counted: Mapping[int, Counted], now: float, cores: int) -> bool:
    """Report whether the least replicas, which served at both looks, use less than half of what would need another."""
    looks = (look.get(number) for look in (scale.seen, counted) for number in range(least_of(spec)))
    served = all(each is not None and each.cpu_s is not None for each in looks)
    half = least_of(spec) * _share(spec, cores) * BUSY_CPU / 2
    return served and _cpu_s(scale, counted) / _seconds(scale, now) < half


def _increase(counters: Iterable[tuple[int, float, float]]) -> float:
    """Return by how much counters have grown in all; one that is smaller than before began anew."""
    return sum(after - before if after >= before else after for _number, before, after in counters)
