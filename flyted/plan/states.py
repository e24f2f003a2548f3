"""Turns what systemd reports about an app's units into the app's state, in a word for people. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.names import Replica, replica_of
from flyted.contract.status import AppState
from flyted.launch.words import KEPT, WAITING
from flyted.plan.engines.sleep import asleep
from flyted.plan.facts import Facts, StoredApp
from flyted.plan.freeze import frozen
from flyted.plan.reasons import clean
from flyted.plan.scaling import least_of

STATE_OF: dict[str, AppState] = {  # ActiveState of the .service, while its .socket listens; systemd(1), "UNITS"
    "inactive": AppState.SLEEPING,
    "activating": AppState.STARTING,
    "reloading": AppState.RUNNING,
    "refreshing": AppState.RUNNING,
    "maintenance": AppState.STOPPING,
    "active": AppState.RUNNING,
    "deactivating": AppState.STOPPING,
    "failed": AppState.FAILED,
}


def state_of(app: StoredApp, facts: Facts) -> tuple[AppState, str]:
    """Return an app's state and, for people, the reason for it ("" when there is nothing to say)."""
    if app.wanted == "stopped":
        own = facts.units_of(app.key.id)
        return (AppState.STOPPING, "") if own else (AppState.STOPPED, "stopped with `flytectl app stop`")
    if app.serving is None:
        if any(r.app_id == app.key.id for r in facts.candidates):
            return AppState.DEPLOYING, ""
        last = app.revisions[-1] if app.revisions else None
        return AppState.FAILED, last.reason if last else "it has no revision"
    replicas = replica_states(app, facts)
    serving = [each for each in replicas if each.state is AppState.RUNNING]
    failed = [each for each in replicas if each.state is AppState.FAILED]
    if serving and failed:
        return AppState.RUNNING, f"replica {failed[0].replica.number} is not: {failed[0].reason}"
    first = min(replicas, key=lambda each: _RANK.index(each.state) if each.state in _RANK else len(_RANK))
    return first.state, first.reason or _limited(app, facts)


def _limited(app: StoredApp, facts: Facts) -> str:
    """Return why an app has fewer replicas than its load needs; "" if it has as many."""
    scale = facts.scales.get(app.key.id)
    if scale is None or not scale.limited or app.current is None or scale.revision != app.serving:
        return ""
    has = least_of(app.current.spec) + len(scale.extra)
    return f"its load needs {scale.needed} replicas, and it has {has}: {scale.limited}"


_RANK = (AppState.RUNNING, AppState.STARTING, AppState.FROZEN, AppState.SLEEPING, AppState.STOPPING)
"""What an app's replicas say of the app: the first of these states that one of them has, else its first one's."""


@dataclass(frozen=True)
class ReplicaState:
    """The state of one replica, and the reason for it."""

    replica: Replica
    state: AppState
    reason: str


def replica_states(app: StoredApp, facts: Facts) -> list[ReplicaState]:
    """Return the states of the replicas of an app's serving revision that shall exist, or have units, by number."""
    found = set(app.serving_replicas)
    if app.pooled and found:
        there = {replica_of(unit.name) for unit in facts.units_of(app.key.id)}
        found |= {each for each in there if each is not None and each.revision == app.serving}
    return [ReplicaState(each, *_replica_state(each, facts)) for each in sorted(found)]


def _replica_state(replica: Replica, facts: Facts) -> tuple[AppState, str]:
    failure = facts.failures.get(replica)
    if failure is not None:
        return AppState.FAILED, failure.reason
    service = facts.units.get(replica.service)
    if service is None:
        return AppState.SLEEPING, ""
    if replica in facts.leaving and service.active == "active":
        return AppState.STOPPING, "finishing its last requests"
    if asleep(service):
        return AppState.SLEEPING, service.status
    if service.active == "active" and frozen(replica, facts.units):
        return AppState.FROZEN, ""
    state = STATE_OF.get(service.active, AppState.UNKNOWN)
    if state is AppState.STARTING and service.name in facts.gpu.waits:
        return state, f"waiting for a GPU: {facts.gpu.waits[service.name]}"
    if state is AppState.STARTING and (why := waits_for(service.status)):
        return state, why
    return state, "" if state is not AppState.UNKNOWN else f"systemd says {service.active} ({service.sub})"


def waits_for(status: str) -> str:
    """Return what a start waits for that may never come, as the status of the service says; "" if for nothing."""
    return status.removeprefix(WAITING) if status.startswith(WAITING) else ""


def notes_of(status: str) -> tuple[str, ...]:
    """Return what the status of a service says that the user who deploys it should know."""
    _, kept, names = status.partition(KEPT)
    return (f"{KEPT}{clean(names)}",) if kept and names else ()
