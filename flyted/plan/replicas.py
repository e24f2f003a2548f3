"""Plans the replicas of an app that may have more than one: how many run, and which of them get requests. Pure.

All replicas that serve are in the app's pool of the ingress. If none does, the first one that listens is: a request
wakes it, as it wakes an app of one replica. A replica that has crashed gets no requests until it serves again, and is
started again as soon as its pause is over; the others serve meanwhile. A replica beyond the least ones is stopped by
``leaving.py``, as soon as it is not among those that are needed (``scaling.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from flyted.contract.names import Replica, replica_of
from flyted.plan import scaling
from flyted.plan.cold import plan_visits
from flyted.plan.draft import Draft, away, server_timeout_ms
from flyted.plan.facts import Facts, Revision, StoredApp
from flyted.plan.gpus.room import room as room_on_gpus
from flyted.plan.idle import Clock
from flyted.plan.ingress.pools import pool_name
from flyted.plan.pairs import is_awake, listens, plan_service, rests, server_of
from flyted.plan.replica_room import room
from flyted.plan.scaling import Counted, Scale
from flyted.plan.unit_index import UnitFact

NO_GPU = "no GPU is free for another one"


def plan_replicas(
    app: StoredApp, revision: Revision, host: str, facts: Facts, clocks: Mapping[str, Clock], now: float, draft: Draft
) -> None:
    """Plan the replicas of an app with a pool, and its part of the ingress. ``host``: its host name."""
    spec, pool = revision.spec, pool_name(app.pool or 0)
    scale = _scale(app, revision, facts, now, draft)
    extra = _numbered(app, revision, scale.extra if scale is not None else ())
    draft.extra.update(extra)
    listening = tuple(each for each in (*app.serving_replicas, *extra) if listens(each, facts, now, draft))
    if not listening:
        draft.unavailable[host] = away(app, (*app.serving_replicas, *extra), facts, now)
        return
    serving = [each for each in listening if not rests(facts.units.get(each.service))]
    members = frozenset(serving or [_woken(listening, facts)])
    draft.members[app.key.id] = members
    for replica in listening:
        draft.servers[replica.server] = server_of(
            replica, h2=spec.h2c, pool=pool, rests=replica not in members
        )  # fmt: skip
        plan_service(replica, spec, facts, clocks, now, draft, runs=spec.min_replicas > 0 or bool(extra))
    draft.hosts[host] = pool
    if any(is_awake(each, facts, draft) for each in members):
        draft.awake[pool] = "yes"
    plan_visits(host, pool, listening, _woken(listening, facts), revision, facts, draft)
    if spec.sticky:
        draft.sticky[pool] = "yes"
    if scale is not None:
        draft.watched |= {f"{pool}{kind}": load for kind, load in scaling.watched(scale, spec).items()}
    waits = not serving or any(each in facts.busy or each in draft.resting for each in members)
    if waits or spec.request_timeout_s:
        draft.timeouts_ms[pool] = server_timeout_ms(spec, facts, waits=waits)


def _numbered(app: StoredApp, revision: Revision, numbers: Iterable[int]) -> tuple[Replica, ...]:
    return tuple(Replica(app.key.id, revision.number, number) for number in sorted(numbers))


def _woken(listening: tuple[Replica, ...], facts: Facts) -> Replica:
    """Return the replica that the next request wakes."""
    return next((each for each in listening if each not in facts.failures), listening[0])


def _scale(app: StoredApp, revision: Revision, facts: Facts, now: float, draft: Draft) -> Scale | None:
    """Return which replicas the app needs now beyond its least ones; ``None`` if it sleeps, or always has as many."""
    spec = revision.spec
    if not scaling.scales(spec):
        return None
    scale = facts.scales.get(app.key.id)
    if scale is None or scale.revision != revision.number:
        scale = Scale(revision.number, _there(app, revision, facts))
    if not scale.extra and all(rests(facts.units.get(each.service)) and not _starts(each, facts)
                               for each in app.serving_replicas):  # fmt: skip
        return None
    if facts.counted:
        scale = scaling.looked(scale, spec, _counted(app, revision, scale, facts), now, facts.cores)
    if scaling.missing(scale, spec):
        scale = _grown(app, revision, scale, facts, now, draft)
    else:
        scale = scaling.unlimited(scale)
    if (number := scaling.surplus(scale, spec, now)) > 0:
        scale = scaling.dropped(scale, _not_needed(app, revision, scale, facts, number))
    draft.scales[app.key.id] = scale
    if not scale.rests:
        draft.wake_times.append(scale.next_look if scale.next_look > now else now + scaling.LOOK_S)
    return scale


def _starts(replica: Replica, facts: Facts) -> bool:
    service = facts.units.get(replica.service)
    return service is not None and service.active == "activating"


def _there(app: StoredApp, revision: Revision, facts: Facts) -> frozenset[int]:
    """Return the replicas beyond the least ones that have units already: flyted, or this revision, has just begun."""
    found = {replica_of(name) for name in facts.index.by_app.get(app.key.id, ())}
    numbers = {
        each.number
        for each in found
        if each is not None and each.revision == revision.number and each not in facts.leaving
    }
    return frozenset(numbers & set(range(scaling.least_of(revision.spec), revision.spec.max_replicas)))


def _counted(app: StoredApp, revision: Revision, scale: Scale, facts: Facts) -> dict[int, Counted]:
    found = {}
    for replica in (*app.serving_replicas, *_numbered(app, revision, scale.extra)):
        traffic = facts.traffic.get(replica.server)
        if traffic is not None:
            serves = not rests(facts.units.get(replica.service))
            cpu_s = facts.cpu_s.get(replica.service) if serves else None
            current = traffic.in_flight + traffic.queued
            found[replica.number] = Counted(current, traffic.queued, traffic.started, cpu_s)
    return found


def _grown(app: StoredApp, revision: Revision, scale: Scale, facts: Facts, now: float, draft: Draft) -> Scale:
    """Return the scale with the replicas that are missing: first those that still drain, else those of low numbers."""
    spec, limited = revision.spec, ""
    wanted = missing = scaling.missing(scale, spec)
    if spec.gpu_count:
        all_of_it = (*app.serving_replicas, *_numbered(app, revision, scale.extra))
        own = {replica.service for replica in all_of_it if replica not in facts.failures}
        if now < scale.no_gpu_at + scaling.GPUS_S or own - {lease.unit for lease in facts.gpu.leases}:
            return scale  # there is none, or replicas that were added are yet to get theirs
        if facts.gpu.inventory is None:
            draft.looks_for_gpus = True
            return replace(scale, no_gpu_at=now) if facts.gpu.error else scale
        wanted = room_on_gpus(app.key.id, spec.gpu, facts.gpu, wanted)
        if not wanted:
            return replace(scale, no_gpu_at=now, limited=NO_GPU)
        limited = NO_GPU if wanted < missing else ""
    numbers = set(range(scaling.least_of(spec), spec.max_replicas)) - scale.extra
    free = [each for each in _numbered(app, revision, numbers) if each not in facts.busy]
    back = [each for each in free if each in facts.leaving][:wanted]
    new = wanted - len(back)
    if new:
        most, why = _room(app, revision, scale, facts, draft)
        new, limited = (new, limited) if new <= most else (most, why)
        draft.promised_bytes += new * spec.memory_bytes
    more = [*back, *[each for each in free if each not in back][:new]]
    return replace(scaling.added(scale, (each.number for each in more)) if more else scale, limited=limited)


def _room(app: StoredApp, revision: Revision, scale: Scale, facts: Facts, draft: Draft) -> tuple[int, str]:
    """Return how many new replicas the machine has room for now, and why not for more."""
    running = (*app.serving_replicas, *_numbered(app, revision, scale.extra))
    starting = sum(rests(facts.units.get(each.service)) for each in running) * revision.spec.memory_bytes
    promised = starting + _starting_bytes(facts, app.key.id) + draft.promised_bytes
    there = {replica for name in facts.index if (replica := replica_of(name)) is not None}
    networks = len(there | draft.extra | facts.candidates)
    return room(revision.spec, len(running), promised, networks, facts)


def _starting_bytes(facts: Facts, but: str) -> int:
    """Return the memory that the replicas of all other apps than ``but`` take only now.

    They start, or were added in an earlier pass and are about to.
    """
    added = {Replica(key, scale.revision, number) for key, scale in facts.scales.items() for number in scale.extra}
    soon = {each for each in added if rests(facts.units.get(each.service))}
    starting = (name for name, unit in facts.index.others.items() if unit.active == "activating")
    soon |= {each for name in starting if (each := replica_of(name)) is not None}
    found = {app.key.id: app for app in facts.apps if app.key.id != but} if soon else {}
    revisions = (found[each.app_id].revision(each.revision) for each in soon if each.app_id in found)
    return sum(revision.spec.memory_bytes for revision in revisions if revision is not None)


def _not_needed(app: StoredApp, revision: Revision, scale: Scale, facts: Facts, number: int) -> list[int]:
    """Return the numbers of at most ``number`` replicas beyond the least ones that may be taken away now.

    First come those that do not serve, then those with the fewest requests. As many as are needed go on to serve, even
    if these are not the least ones: one of those may have crashed, or be starting.
    """
    extra = _numbered(app, revision, scale.extra)
    serving = {each for each in (*app.serving_replicas, *extra) if not rests(facts.units.get(each.service))}

    def use(replica: Replica) -> tuple[bool, int, int]:
        traffic = facts.traffic.get(replica.server)
        current = traffic.in_flight + traffic.queued if traffic is not None else 0
        return replica in serving, current, -replica.number

    first = sorted(extra, key=use)[:number]
    idle = [each for each in first if each not in serving]
    spare = max(0, len(serving) - max(1, scale.most))
    return [each.number for each in (*idle, *[each for each in first if each in serving][:spare])]


def to_begin_with(app: StoredApp, number: int, units: Iterable[UnitFact]) -> tuple[Replica, ...]:
    """Return the replicas with which a revision that is deployed begins: its least ones, and as many as serve now.

    ``units``: those of this app. Where a replica needs GPUs, it is the first one alone: those that serve have theirs
    for as long as they drain.
    """
    revision = app.revision(number)
    if revision is None or revision.spec.max_replicas == 1 or revision.spec.gpu_count:
        return (Replica(app.key.id, number),)
    services = (unit for unit in units if unit.active == "active" and unit.name.endswith(".service"))
    serving = sum((each := replica_of(unit.name)) is not None and each.revision == app.serving for unit in services)
    count = min(max(scaling.least_of(revision.spec), serving), revision.spec.max_replicas)
    return _numbered(app, revision, range(count))
