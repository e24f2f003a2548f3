"""Plans the sleep of engines without ending them, by what their units report. Pure.

Only the unit's main process can report whether its engine sleeps. That process is launch, unless the app's user
tampers with it. So only the app's own sleep depends on the report: a false one keeps the app's memory in use, as a
request that never ends would.
"""

from __future__ import annotations

from flyted.contract.app import AppSpec
from flyted.contract.names import Replica
from flyted.launch.words import ASLEEP, AWAKE, SLEEP_S, WAKE_S
from flyted.plan.actions import EngineSleep, Sleep
from flyted.plan.facts import StoredApp
from flyted.plan.idle import Traffic
from flyted.plan.unit_index import UnitFact

SLEEP_AND_WAKE_S = SLEEP_S + max(WAKE_S.values())
"""The most seconds that an engine takes to go to sleep and to wake."""
ANSWER_S = SLEEP_S + 15.0
"""Seconds to wait for a unit's report: launch first waits for requests in flight, then for the engine."""


def idle_step(spec: AppSpec, replica: Replica, seen: Traffic | None = None) -> Sleep | EngineSleep:
    """Return the action for an app that is idle. ``seen``: as in :class:`Sleep`."""
    return EngineSleep(replica) if spec.engine_sleep else Sleep(replica, seen)


def asleep(service: UnitFact | None) -> bool:
    """Report whether a service runs and its engine sleeps."""
    return service is not None and service.active == "active" and says_asleep(service.status)


def says_asleep(status: str) -> bool:
    """Report whether the status of a service that runs says that its engine sleeps."""
    return status.startswith(ASLEEP)


def answered(before: str, status: str) -> bool:
    """Report whether the unit's status, previously ``before``, now says how the request to sleep ended."""
    return status != before and status.startswith((ASLEEP, AWAKE))


def sleepers(apps: tuple[StoredApp, ...]) -> frozenset[str]:
    """Return the services whose status has to be read: those of all revisions whose engine may sleep."""
    return frozenset().union(*[app.sleepers for app in apps])
