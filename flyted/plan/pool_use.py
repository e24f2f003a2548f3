"""Finds the pools of the ingress that apps have had and do not need any more. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from flyted.contract.names import replica_of
from flyted.plan.facts import Revision, StoredApp
from flyted.plan.unit_index import UnitIndex


def unused(apps: Iterable[StoredApp], units: UnitIndex) -> tuple[str, ...]:
    """Return the ids of the apps whose pool another app may have: none of their revisions that count has replicas.

    Those that serve or are being deployed count, and those with units, whose replicas may drain in the pool.
    """
    return tuple(app.key.id for app in apps if app.pool is not None and not _needs(app, units))


def _needs(app: StoredApp, units: UnitIndex) -> bool:
    there = {replica_of(name) for name in units.by_app.get(app.key.id, ())}
    running = {replica.revision for replica in there if replica is not None}

    def counts(revision: Revision) -> bool:
        return revision.number == app.serving or revision.status == "pending" or revision.number in running

    return any(revision.spec.max_replicas > 1 and counts(revision) for revision in app.revisions)
