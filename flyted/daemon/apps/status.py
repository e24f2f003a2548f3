"""What the daemon says about an app: facts → the APP map of the control socket. Pure."""

from __future__ import annotations

from typing import Any

from flyted.contract.app import AppSpec
from flyted.contract.names import host_of
from flyted.plan.facts import Facts, StoredApp
from flyted.plan.reconcile import serving_replica
from flyted.plan.states import state_of


def url_of(app_id: str, base_domain: str, https_port: int) -> str:
    """Return the URL at which the ingress serves an app."""
    return f"https://{host_of(app_id, base_domain)}" + (f":{https_port}" if https_port != 443 else "")


def app_map(app: StoredApp, facts: Facts, base_domain: str, https_port: int) -> dict[str, Any]:
    """Return the stable description of an app (flytectl(1), "JSON")."""
    state, reason = state_of(app, facts)
    shown = app.current or (app.revisions[-1] if app.revisions else None)
    spec = shown.spec if shown else None
    failed = app.revisions[-1] if app.revisions and app.revisions[-1].status == "failed" else None
    return {
        "name": app.key.name, "project": app.key.project, "domain": app.key.domain, "id": app.key.id,
        "url": url_of(app.key.id, base_domain, https_port),
        "state": str(state), "reason": reason, "revision": app.serving or 0, "wanted": app.wanted,
        "deployed_by": shown.deployed_by if shown else "",
        "created_at": app.created_at, "updated_at": app.updated_at, "serving_since": app.serving_since,
        "image": shown.image.to_dict() if shown else {},
        "units": _units(app, facts),
        "secrets": [{"key": s.key, "env": s.env, "file": s.file} for s in spec.secrets] if spec else [],
        "min_replicas": spec.min_replicas if spec else 0,
        "engine_sleep": spec.engine_sleep if spec else 0,
        "scaledown_after_s": spec.scaledown_after_s if spec else 0.0,
        "memory_bytes": spec.memory_bytes if spec else 0,
        "cpu_cores": spec.cpu_cores if spec else 0.0,
        "disk_bytes": spec.disk_bytes if spec else 0, "shm_bytes": spec.shm_bytes if spec else 0,
        "gpu": _gpu(app, spec, facts) if spec and spec.gpu_count else None,
        "egress": spec.egress if spec else True,
        "port": spec.port if spec else 0,
        "protocol": "h2c" if spec and spec.h2c else "http1",
        "ready_path": spec.ready_path if spec else "",
        "start_timeout_s": spec.start_timeout_s if spec else 0.0,
        "requires_auth": spec.requires_auth if spec else False,
        "open_paths": list(shown.open_paths) if shown and shown.open_paths is not None else None,
        "models": [list(model) for model in spec.models] if spec else [],
        "type": spec.type if spec else "", "description": spec.description if spec else "",
        "links": [list(link) for link in spec.links] if spec else [],
        "unmet": list(spec.unmet) if spec else [], "notes": list(shown.notes) if shown else [],
        "requests": _requests(app, facts),
        "spec_digest": shown.digest if shown else "",
        "last_failure": {"revision": failed.number, "reason": failed.reason} if failed else None,
    }  # fmt: skip


def _gpu(app: StoredApp, spec: AppSpec, facts: Facts) -> dict[str, Any]:
    """Return what the app asks for, what it holds since when, and the most that it was seen to use of one device."""
    held = [le for le in facts.gpu.leases if le.app_id == app.key.id and le.ended_at is None]
    learned = facts.gpu.learned.get(app.key.id)
    return {
        "count": spec.gpu_count, "name": spec.gpu_name, "partition": spec.gpu_partition,
        "devices": [
            {"uuid": uuid, "name": name, "revision": le.revision, "since": le.since}
            for le in held for uuid, name in zip(le.devices, le.names, strict=True)
        ],
        "peak_bytes": learned.peak_bytes if learned else 0, "load_s": learned.load_s if learned else 0.0,
    }  # fmt: skip


def _units(app: StoredApp, facts: Facts) -> list[dict[str, str]]:
    return [{"name": unit.name, "active": unit.active, "sub": unit.sub} for unit in facts.units_of(app.key.id)]


def _requests(app: StoredApp, facts: Facts) -> dict[str, int] | None:
    replica = serving_replica(app)
    traffic = facts.traffic.get(replica.server) if replica else None
    return {"in_flight": traffic.in_flight + traffic.queued, "total": traffic.started} if traffic else None
