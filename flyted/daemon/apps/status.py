"""Makes :class:`AppStatus`, the answer about an app, from facts. Pure."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from flyted.contract.answers.apps import (
    AppStatus,
    Failure,
    GpuUse,
    HeldGpu,
    ReplicaStatus,
    Requests,
    UnitStatus,
    UsedSecret,
)
from flyted.contract.app import AppSpec
from flyted.contract.names import at_port
from flyted.daemon.images.images import image_status
from flyted.plan.facts import Facts, StoredApp
from flyted.plan.ingress import names
from flyted.plan.states import replica_states, state_of

_OWN = {"image", "secrets", "open_paths", "idle"}
"""Fields that are others in a status than in a spec."""
_ALIKE: dict[str, Any] = {
    each.name: each.default for each in fields(AppSpec) if each.name in {own.name for own in fields(AppStatus)} - _OWN
}
"""Fields of a spec that a status shows as they are → their defaults, for an app that has no revision."""


def url_of(host: str, https_port: int) -> str:
    """Return the URL of an app. ``host``: the one that is shown (plan/ingress/names.py)."""
    return f"https://{at_port(host, https_port)}"


def app_status(app: StoredApp, facts: Facts, base_domain: str, https_port: int) -> AppStatus:
    """Return the state of an app, and what its serving revision (else its newest one) is made of."""
    state, reason = state_of(app, facts)
    shown = app.current or (app.revisions[-1] if app.revisions else None)
    spec = shown.spec if shown else None
    return AppStatus(
        name=app.key.name, project=app.key.project, domain=app.key.domain, id=app.key.id,
        url=url_of(names.shown(app.key.id, spec, base_domain, facts.sites), https_port),
        state=state, reason=reason, revision=app.serving or 0, wanted=app.wanted,
        deployed_by=shown.deployed_by if shown else "",
        created_at=app.created_at, updated_at=app.updated_at, serving_since=app.serving_since,
        image=image_status(shown.image) if shown else None,
        replicas=tuple(
            ReplicaStatus(each.replica.number, each.state, each.reason, 0.0) for each in replica_states(app, facts)
        ),
        units=tuple(UnitStatus(unit.name, unit.active, unit.sub) for unit in facts.units_of(app.key.id)),
        secrets=tuple(UsedSecret(s.key, s.env, s.file) for s in spec.secrets) if spec else (),
        idle="freeze" if spec and facts.freeze.may_freeze(spec) else "stop",
        stop_after_s=facts.freeze.stop_after(spec) if spec else 0.0,
        gpu=_gpu(app, spec, facts) if spec and spec.gpu_count else None,
        protocol="h2c" if spec and spec.h2c else "http1",
        open_paths=shown.open_paths if shown else None,
        notes=shown.notes if shown else (),
        requests=_requests(app, facts),
        callers=(),
        spec_digest=shown.digest if shown else "",
        last_failure=_last_failure(app),
        **{name: getattr(spec, name, default) for name, default in _ALIKE.items()},
    )  # fmt: skip


def _gpu(app: StoredApp, spec: AppSpec, facts: Facts) -> GpuUse:
    held = [le for le in facts.gpu.leases if le.app_id == app.key.id and le.ended_at is None]
    learned = facts.gpu.learned.get(app.key.id)
    devices = tuple(
        HeldGpu(uuid, name, le.revision, le.replica, le.since)
        for le in held for uuid, name in zip(le.devices, le.names, strict=True)
    )  # fmt: skip
    return GpuUse(
        spec.gpu_count, spec.gpu_name, spec.gpu_partition, devices,
        peak_bytes=learned.peak_bytes if learned else 0, load_s=learned.load_s if learned else 0.0,
    )  # fmt: skip


def _requests(app: StoredApp, facts: Facts) -> Requests | None:
    replicas = (each.replica.server for each in replica_states(app, facts))
    counted = [facts.traffic[server] for server in replicas if server in facts.traffic]
    if not counted:
        return None
    return Requests(sum(each.in_flight + each.queued for each in counted), sum(each.started for each in counted))


def _last_failure(app: StoredApp) -> Failure | None:
    newest = app.revisions[-1] if app.revisions else None
    return Failure(newest.number, newest.reason) if newest and newest.status == "failed" else None
