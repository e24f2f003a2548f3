"""Apps as the SDK describes them (flyte/app/_runtime/app_serde.py), made by hand."""

from __future__ import annotations

import hashlib
from typing import Any

from flyteidl2.app import app_definition_pb2 as definition
from flyteidl2.core import tasks_pb2

from flyted.gateway.files.blobs import BlobKey
from tests.gateway.harness import Running

BASE = "ghcr.io/flyteorg/flyte:py3.12-v2.12.1"
CODE = b"a bundle"


def bundle(gateway: Running, code: bytes = CODE) -> BlobKey:
    """A code bundle that was uploaded."""
    place = BlobKey("p1", "development", hashlib.md5(code).hexdigest(), "fast1.tar.gz")
    (gateway.state / "blobs" / f"{place.stem}.{hashlib.sha256(code).hexdigest()}").write_bytes(code)
    return place


def app(place: BlobKey | None = None, name: str = "hello", image: str = BASE, **spec: Any) -> definition.App:
    """A FastAPI app's description."""
    command = ["fserve", "--version", "1", "--project", "p1", "--domain", "development", "--org", "o"]
    if place is not None:
        command += ["--tgz", place.url, "--dest", "."]
    command += ["--resolver", "flyte._internal.resolvers.app_env.AppEnvResolver", "--resolver-args", "m:env", "--"]
    made = definition.App(spec=definition.Spec(**spec))
    made.metadata.id.org, made.metadata.id.project = "o", "p1"
    made.metadata.id.domain, made.metadata.id.name = "development", name
    made.spec.container.CopyFrom(tasks_pb2.Container(image=image, command=command))
    made.spec.security_context.allow_anonymous = True
    if not made.spec.desired_state:
        made.spec.desired_state = definition.Spec.DESIRED_STATE_ACTIVE
    return made
