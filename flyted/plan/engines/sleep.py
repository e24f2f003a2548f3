"""Apps whose program sleeps and stays, vLLM: what their units say, and what that means. Pure.

Whether one sleeps is told by its unit's main process alone, which is ours until the app's user tampers with it. So
nothing rests on it but the app's own sleep: a lie keeps the app's memory taken, as a request that never ends would.
"""

from __future__ import annotations

from flyted.contract.app import AppSpec
from flyted.contract.names import Replica
from flyted.plan.actions import Doze, Sleep
from flyted.plan.facts import StoredApp, UnitFact

ASLEEP, AWAKE = "asleep", "awake"
"""How the status begins (launch/sleeper.py)."""
WAKE_S = 240.0
"""The longest that the way to sleep and back takes (launch/engine_sleep.py)."""
DOZE_S = 75.0
"""In so long it says either: above what launch allows for the way to sleep (launch/engine_sleep.py)."""


def idle_step(spec: AppSpec, replica: Replica) -> Sleep | Doze:
    """What is done with an app that is idle."""
    return Doze(replica) if spec.engine_sleep else Sleep(replica)


def asleep(service: UnitFact | None) -> bool:
    """Whether the program of a service that runs sleeps."""
    return service is not None and service.active == "active" and service.status.startswith(ASLEEP)


def answered(before: str, status: str) -> bool:
    """Whether a unit whose status was ``before`` has said what came of the wish that it sleeps."""
    return status != before and status.startswith((ASLEEP, AWAKE))


def dozers(apps: tuple[StoredApp, ...]) -> frozenset[str]:
    """The services whose status is worth a look."""
    return frozenset(
        Replica(app.key.id, revision.number).service
        for app in apps for revision in app.revisions if revision.spec.engine_sleep
    )  # fmt: skip
