"""Translates flyted's answer about an app to Flyte's status.

The SDK reads only the last condition (flyte/remote/_app.py).
"""

from __future__ import annotations

from flyteidl2.app import app_definition_pb2 as pb

from flyted.contract.answers.apps import AppStatus
from flyted.contract.answers.events import Accepted
from flyted.contract.status import AppState
from flyted.gateway.harmless import harmless_lines

_D, _S = pb.Status, pb.Status
_SAID: dict[AppState, tuple[int, int, str]] = {
    AppState.DEPLOYING: (_D.DEPLOYMENT_STATUS_DEPLOYING, _S.INITIALIZING, "the first revision is being started"),
    # a sleeping or waking app is active: a request is all that it needs
    AppState.STARTING: (_D.DEPLOYMENT_STATUS_ACTIVE, _S.SCALING_FROM_ZERO, "Service is ready; it wakes up"),
    AppState.RUNNING: (_D.DEPLOYMENT_STATUS_ACTIVE, _S.RUNNING, "Service is ready"),
    AppState.FROZEN: (_D.DEPLOYMENT_STATUS_ACTIVE, _S.RUNNING, "Service is ready; the next request thaws it"),
    AppState.SLEEPING: (
        _D.DEPLOYMENT_STATUS_ACTIVE,
        _S.SCALED_TO_ZERO,
        "App scaled to zero; the next request wakes it",
    ),
    AppState.STOPPED: (_D.DEPLOYMENT_STATUS_STOPPED, _S.SUBSTATE_UNSPECIFIED, "App is stopped"),
    AppState.UNKNOWN: (_D.DEPLOYMENT_STATUS_PENDING, _S.SUBSTATE_UNSPECIFIED, ""),
}
_THERE = (AppState.RUNNING, AppState.FROZEN, AppState.STARTING)
_SUBSTATES = (("memory", _S.OOM_KILLED), ("secret", _S.SECRET_MOUNT_ERROR), ("image", _S.IMAGE_PULL_ERROR))


def of_app(app: AppStatus) -> pb.Status:
    """Return the status of an app that no deploy is changing right now."""
    status = _begun(app)
    failure = app.last_failure
    if failure and failure.revision > app.revision:
        _condition(status, _D.DEPLOYMENT_STATUS_FAILED, failure.reason, failure.revision, app.updated_at)
    status.current_replicas = sum(each.state in _THERE for each in app.replicas)
    number, substate, text = _word(app)
    said = "; ".join([app.reason or text, *(f"note: {text}" for text in (*app.unmet, *app.notes))])
    _condition(status, number, said, app.revision, app.updated_at, substate)
    return status


def _word(app: AppStatus) -> tuple[int, int, str]:
    if app.state is AppState.FAILED:
        return _D.DEPLOYMENT_STATUS_FAILED, _why(app.reason), "App has failed"
    if app.state is AppState.STOPPING:
        if app.wanted == "stopped":
            return _D.DEPLOYMENT_STATUS_SCALING_DOWN, _S.SCALING_DOWN, "finishing its last requests"
        return _D.DEPLOYMENT_STATUS_ACTIVE, _S.SCALING_DOWN, "going to sleep"
    return _SAID[app.state]


def of_deploy(app: AppStatus | None, accepted: Accepted, text: str, now: float) -> pb.Status:
    """Return the status during a deploy. Its last condition is pending, whatever the old revision does.

    ``app``: None for a new one. ``now``:
    seconds since 1970.
    """
    status = _begun(app) if app else pb.Status()
    status.ingress.public_url = accepted.url
    if not status.HasField("created_at"):
        status.created_at.FromSeconds(int(now))
    message = text or "App is pending deployment"
    _condition(status, _D.DEPLOYMENT_STATUS_PENDING, message, accepted.revision, now, _S.INITIALIZING)
    return status


def of_failure(accepted: Accepted, reason: str, now: float) -> pb.Status:
    """Return the status after a deploy that failed, for its watcher, even though the old revision still serves.

    The arguments are those of :func:`of_deploy`.
    """
    status = pb.Status()
    status.ingress.public_url = accepted.url
    _condition(status, _D.DEPLOYMENT_STATUS_FAILED, reason, accepted.revision, now, _why(reason))
    return status


def names(status: pb.Status) -> str:
    """Return the name of the last condition's state, as filters use it."""
    last = status.conditions[-1].deployment_status if status.conditions else 0
    return str(pb.Status.DeploymentStatus.Name(last))


def _begun(app: AppStatus) -> pb.Status:
    status = pb.Status()
    status.ingress.public_url = app.url
    status.created_at.FromSeconds(int(app.created_at))
    status.last_updated_at.FromSeconds(int(app.updated_at))
    return status


def _why(reason: str) -> int:
    return int(next((state for word, state in _SUBSTATES if word in reason.lower()), _S.CRASH_LOOP))


def _condition(
    status: pb.Status, number: int, message: str, revision: int, when: float, substate: int = _S.SUBSTATE_UNSPECIFIED
) -> None:
    added = status.conditions.add()
    added.deployment_status, added.substate = number, substate
    added.message, added.revision = harmless_lines(message[:4096]), revision
    added.last_transition_time.FromSeconds(int(when))
