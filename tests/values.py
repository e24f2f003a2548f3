"""Values that tests start from: an app, its units, the facts about them."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from flyted.contract.app import AppSpec
from flyted.contract.names import AppKey, Replica
from flyted.launch.options import Options, parse
from flyted.plan.facts import Capacity, Facts, ImageFact, Revision, StoredApp
from flyted.plan.idle import Traffic
from flyted.plan.unit_index import UnitFact
from flyted.plan.units import UnitPair

DOMAIN = "apps.localhost"
MACHINE = Capacity(memory_bytes=24 << 30, cpu_cores=2)


def spec(name: str = "a", **changes: Any) -> AppSpec:
    """Return an app of the default scope that runs; ``changes`` are fields of AppSpec."""
    values: dict[str, Any] = {"key": AppKey("default", "development", name), "command": ("fserve", "--"), "image": {}}
    return AppSpec(**{**values, **changes})


def parameters_of(*items: dict[str, Any]) -> str:
    """Return --parameters as the SDK encodes it (flyte/app/_parameter.py)."""
    return base64.b64encode(gzip.compress(json.dumps({"parameters": items}).encode(), mtime=0)).decode()


def app(
    name: str = "a", serving: int | None = 1, wanted: str = "started", revisions: int = 1, **changes: Any
) -> StoredApp:
    """An app with some revisions, the last of which serves; if it may have several replicas, pool 7 is its own."""
    made = spec(name, **changes)
    return StoredApp(
        pool=7 if made.max_replicas > 1 else None,
        key=made.key, wanted=wanted, serving=serving, created_at=0.0, updated_at=0.0,
        revisions=tuple(
            Revision(n, made, ImageFact("/i"), "", "ready" if n == serving else "failed", "boom", 0.0)
            for n in range(1, revisions + 1)
        ),
    )  # fmt: skip


def pair(replica: Replica, service: str = "inactive", socket: str = "active") -> dict[str, UnitFact]:
    """Both units of a replica, as systemd reports them."""
    return {
        replica.socket: UnitFact(replica.socket, "loaded", socket, "listening"),
        replica.service: UnitFact(replica.service, "loaded", service, "running" if service == "active" else "dead"),
    }


def quiet(age_s: float = 1000.0, started: int = 1, in_flight: int = 0) -> Traffic:
    """Counters of a server whose last request began ``age_s`` ago."""
    return Traffic(in_flight, 0, started, started - in_flight, age_s, 0.0)


def facts(*apps: StoredApp, **more: Any) -> Facts:
    """Facts, with no units unless given."""
    return Facts(apps=apps, **{"units": {}, **more})


def told(pair: UnitPair) -> tuple[dict[str, str], Options]:
    """What launch makes of a pair's command line and start file: the variables that it sets, and its options."""
    ((path, words, flags),) = pair.service["ExecStartEx"]
    assert (path, flags) == (words[0], ["no-env-expand"])
    assert words[5:] == ["--start", "start"]
    document = json.loads(pair.start)
    return document["environment"], parse([*words[3:5], *document["words"]])
