"""Says in words how many replicas an app has, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flytectl.times import for_people
from flyted.contract.status import AppState

if TYPE_CHECKING:
    from flyted.contract.answers.apps import AppStatus, ReplicaStatus


def running(app: AppStatus) -> int:
    """Return how many replicas of an app run, those that are frozen included: a request thaws them."""
    return sum(each.state in (AppState.RUNNING, AppState.FROZEN) for each in app.replicas)


def scaling(app: AppStatus) -> str:
    """Return how many replicas an app has, and what decides about their number; "" for an app of one replica."""
    if app.max_replicas <= 1:
        return ""
    if app.min_replicas == app.max_replicas:
        found = f"{app.max_replicas} always"
    else:
        found = f"{app.min_replicas} to {app.max_replicas}, {_metric(app)}"
    return found + (", a browser's requests go to the same one" if app.sticky else "")


def _metric(app: AppStatus) -> str:
    for value, unit in ((app.concurrency, "at once"), (app.request_rate, "a second")):
        if value:
            return f"one for {value} request{'s' * (value > 1)} {unit}"
    return "by their CPU time"


def replica(status: ReplicaStatus) -> str:
    """Return the state of a replica, since when it has that, and why."""
    since = f", since {for_people(status.since)}" if status.since else ""
    return f"{status.number}: {status.state}{since}" + (f" ({status.reason})" if status.reason else "")
