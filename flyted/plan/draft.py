"""Collects what one pass decides, while the parts of the planner go through the apps. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from flyted.contract.app import AppSpec
from flyted.contract.names import Replica
from flyted.plan.actions import PairAction
from flyted.plan.engines.sleep import SLEEP_AND_WAKE_S
from flyted.plan.facts import Facts, StoredApp
from flyted.plan.groups import Share
from flyted.plan.idle import Clock
from flyted.plan.ingress.state import DEFAULT_TIMEOUT_MS, Unavailable, unavailable
from flyted.plan.scaling import Scale
from flyted.plan.units import STOP_S


@dataclass
class Draft(Share):
    """What is decided so far. ``wake_times``: the moments at which time alone changes the plan.

    ``leaving``: replicas that drain → since when. ``resting``: those that are put to sleep or renewed in this pass,
    after the ingress. ``idle``: those that may sleep → seconds without a request. ``extra``: those that their app's
    load needs beyond its least ones. ``members``: app's id → the replicas in its pool that get requests.
    ``promised_bytes``: the memory of the replicas that are added in this pass. ``looks_for_gpus``: whether another
    replica depends on which GPUs are free.
    """

    actions: list[PairAction] = field(default_factory=list)
    leaving: dict[Replica, float] = field(default_factory=dict)
    resting: set[Replica] = field(default_factory=set)
    idle: dict[Replica, float] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)
    wake_times: list[float] = field(default_factory=list)
    scales: dict[str, Scale] = field(default_factory=dict)
    extra: set[Replica] = field(default_factory=set)
    members: dict[str, frozenset[Replica]] = field(default_factory=dict)
    promised_bytes: int = 0
    looks_for_gpus: bool = False


def cannot_serve(app: StoredApp) -> str:
    """Return the message to visitors of an app that failed.

    The reason is not in it: it is a line of the app's log, and so only for its operators.
    """
    return f'"{app.key}" cannot serve now; its operator can see why: flytectl app get {app.key.name}'


def away(app: StoredApp, replicas: tuple[Replica, ...], facts: Facts, now: float) -> Unavailable:
    """Return the message to visitors of an app none of whose replicas listens now."""
    retries = [failure.retry_at for each in replicas if (failure := facts.failures.get(each)) is not None]
    if not retries:
        return unavailable(f'"{app.key}" is starting', 1)
    return unavailable(cannot_serve(app), max(1, int(min(retries) - now)))


def server_timeout_ms(spec: AppSpec, facts: Facts, *, waits: bool) -> int:
    """Return the ingress's server timeout in milliseconds.

    With ``waits`` it also covers all that happens before the app can answer: the end of the previous run, the wait for
    a GPU, and the start of the app, perhaps after a wake of its engine that failed.
    """
    answer = spec.request_timeout_s or DEFAULT_TIMEOUT_MS / 1000
    before = STOP_S + (spec.start_timeout_s or facts.start_s) + (facts.gpu_wait_s if spec.gpu_count else 0)
    before += SLEEP_AND_WAKE_S if spec.engine_sleep else 0
    return int((answer + (before if waits else 0)) * 1000)
