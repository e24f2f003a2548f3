"""Plans the replicas that have units and are not wanted: they are drained first, then stopped. Pure.

A replica of the revision that serves, which the app's load does not need any more, drains for as long as its requests
take: nobody waits for its end. All others have :data:`DRAIN_S`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from flyted.contract.names import Replica, replica_of
from flyted.plan.actions import StopPair
from flyted.plan.draft import Draft
from flyted.plan.facts import Facts, StoredApp
from flyted.plan.groups import Group
from flyted.plan.ingress.pools import pool_name
from flyted.plan.pairs import server_of
from flyted.plan.unit_index import UnitFact

DRAIN_S = 60.0
DRAIN_LOOK_S = 0.5
SURPLUS_LOOK_S = 2.0


def beyond(groups: Sequence[Group], facts: Facts) -> frozenset[Replica]:
    """Return the replicas that have units and are not among those that exist in any case."""
    wanted = frozenset().union(*(group.names for group in groups))
    asleep = {replica for name in facts.index.sleeping - wanted if (replica := replica_of(name)) is not None}
    return frozenset(asleep).union(_running(fact for name, fact in facts.index.others.items() if name not in wanted))


def plan_leaving(found: frozenset[Replica], groups: Sequence[Group], facts: Facts, now: float, draft: Draft) -> None:
    """Plan the replicas among ``found``, as of :func:`beyond`, that nothing wants."""
    for replica in sorted(found - facts.candidates - draft.extra):
        group = next((group for group in groups if replica.app_id in group.ids), None)
        app = next((app for app in group.apps if app.key.id == replica.app_id), None) if group is not None else None
        _plan(replica, app, facts, now, draft)


def _plan(replica: Replica, app: StoredApp | None, facts: Facts, now: float, draft: Draft) -> None:
    since, traffic = facts.leaving.get(replica), facts.traffic.get(replica.server)
    drained = replica not in facts.untold and facts.counted and (traffic is None or not traffic.busy)
    is_surplus = app is not None and app.wanted == "started" and app.serving == replica.revision
    draft.leaving[replica] = now if since is None or is_surplus else since
    if replica in facts.busy:
        return
    if since is not None and (drained or (not is_surplus and now - since >= DRAIN_S)):
        draft.actions.append(StopPair(replica))
        return
    pause = SURPLUS_LOOK_S if is_surplus and traffic is not None and traffic.busy else DRAIN_LOOK_S
    draft.wake_times.append(now + (0.0 if since is None else pause))
    if traffic is not None:
        pool = _pool_of(replica, app)
        draft.servers[replica.server] = server_of(replica, pool=pool, rests=bool(pool))


def _pool_of(replica: Replica, app: StoredApp | None) -> str:
    revision = app.revision(replica.revision) if app is not None else None
    if app is None or app.pool is None or revision is None or revision.spec.max_replicas == 1:
        return ""
    return pool_name(app.pool)


def _running(units: Iterable[UnitFact]) -> Iterator[Replica]:
    for fact in units:
        replica = replica_of(fact.name)
        there = fact.active != "inactive" or fact.name.endswith(".socket")
        if replica is not None and fact.load != "not-found" and there:
            yield replica
