"""What systemd reports → a word that a user understands. One table."""

from __future__ import annotations

from flyted.contract.status import AppState
from flyted.plan.engines.sleep import asleep
from flyted.plan.facts import Facts, StoredApp
from flyted.plan.reasons import clean
from flyted.plan.reconcile import serving_replica

WAITING = "waiting: "
"""How a service's status begins that may wait in vain at its start (launch/supervise.py)."""

KEPT = "the app's own files are used instead of the deployed ones: "
"""How a service's status ends where the app has such (launch/workdir.py)."""

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
    """An app's state and, for people, why it is so ("" when there is nothing to say)."""
    if app.wanted == "stopped":
        own = facts.units_of(app.key.id)
        return (AppState.STOPPING, "") if own else (AppState.STOPPED, "stopped with `flytectl app stop`")
    if app.serving is None:
        if any(r.app_id == app.key.id for r in facts.candidates):
            return AppState.DEPLOYING, ""
        last = app.revisions[-1] if app.revisions else None
        return AppState.FAILED, last.reason if last else "it has no revision"
    replica = serving_replica(app)
    failure = facts.failures.get(replica) if replica else None
    if failure is not None:
        return AppState.FAILED, failure.reason
    service = facts.units.get(replica.service) if replica else None
    if service is None:
        return AppState.SLEEPING, ""
    if asleep(service):
        return AppState.SLEEPING, service.status
    state = STATE_OF.get(service.active, AppState.UNKNOWN)
    if state is AppState.STARTING and service.name in facts.gpu.waits:
        return state, f"waits for a GPU: {facts.gpu.waits[service.name]}"
    if state is AppState.STARTING and service.status.startswith(WAITING):
        return state, service.status.removeprefix(WAITING)
    return state, "" if state is not AppState.UNKNOWN else f"systemd says {service.active} ({service.sub})"


def notes_of(status: str) -> tuple[str, ...]:
    """What whoever deploys should know of a service, by its own word."""
    _, kept, names = status.partition(KEPT)
    return (f"{KEPT}{clean(names)}",) if kept and names else ()
