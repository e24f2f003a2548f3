"""Translates flyted's description of an app to Flyte's ``App``, for apps served without the gateway (flytectl)."""

from __future__ import annotations

import contextlib
from typing import Any

from flyteidl2.app import app_definition_pb2 as pb
from flyteidl2.core import literals_pb2, security_pb2, tasks_pb2

from flyted.contract.app import SHARED_MEMORY, AppSpec, from_dict
from flyted.contract.errors import InvalidInput
from flyted.contract.idl_fields import SYS_PATH
from flyted.contract.names import AppKey


def app_of(key: AppKey, spec: dict[str, Any]) -> pb.App:
    """Return the ``App`` of a spec, the same at every call, so that a client that sends it back changes nothing.

    It is not the whole app: Flyte's IDL has no place for the bundle, the image's layers and flytectl's options. Of a
    spec that this version cannot read, only the names are filled in.
    """
    app = pb.App()
    app.metadata.id.project, app.metadata.id.domain, app.metadata.id.name = key.project, key.domain, key.name
    app.spec.ingress.SetInParent()
    if spec:
        with contextlib.suppress(InvalidInput):  # a spec of a newer flyted: less is shown
            _fill(app.spec, from_dict(spec))
    return app


def _fill(spec: pb.Spec, known: AppSpec) -> None:
    container = spec.container
    (container.args if known.entrypoint else container.command).extend(known.command)
    container.env.extend(literals_pb2.KeyValuePair(key=name, value=value) for name, value in known.env)
    if known.sys_path:
        container.env.append(literals_pb2.KeyValuePair(key=SYS_PATH, value=known.sys_path))
    container.ports.add(container_port=known.container_port, name="h2c" if known.h2c else "")
    container.image = str(known.image.get("spec", {}).get("baseImage", ""))
    asked = {
        tasks_pb2.Resources.CPU: f"{round(known.cpu_cores * 1000)}m" if known.cpu_cores else "",
        tasks_pb2.Resources.MEMORY: str(known.memory_bytes),
        tasks_pb2.Resources.EPHEMERAL_STORAGE: str(known.disk_bytes or ""),
        tasks_pb2.Resources.GPU: str(known.gpu_count or ""),
    }
    for name, value in asked.items():
        if value:
            container.resources.requests.add(name=name, value=value)
    if known.gpu_name or known.gpu_partition:
        accelerator = spec.extended_resources.gpu_accelerator
        accelerator.device, accelerator.partition_size = known.gpu_name, known.gpu_partition
    if known.shm_bytes:
        spec.extended_resources.shared_memory.mount_path = SHARED_MEMORY
        spec.extended_resources.shared_memory.size_limit = str(known.shm_bytes)
    spec.autoscaling.replicas.min, spec.autoscaling.replicas.max = known.min_replicas, known.max_replicas
    if known.concurrency:
        spec.autoscaling.scaling_metric.concurrency.target_value = known.concurrency
    if known.request_rate:
        spec.autoscaling.scaling_metric.request_rate.target_value = known.request_rate
    spec.autoscaling.scaledown_period.FromMicroseconds(round(known.scaledown_after_s * 1_000_000))
    if known.request_timeout_s:
        spec.timeouts.request_timeout.FromMicroseconds(round(known.request_timeout_s * 1_000_000))
    for use in known.secrets:
        mount = security_pb2.Secret.FILE if use.file else security_pb2.Secret.ENV_VAR
        group, _, key = use.key.rpartition("/")
        spec.security_context.secrets.append(
            security_pb2.Secret(group=group, key=key, env_var=use.env, mount_requirement=mount)
        )
    spec.security_context.allow_anonymous = not known.requires_auth
    spec.profile.type, spec.profile.name = known.type, known.key.name
    spec.profile.short_description = known.description
    spec.links.extend(pb.Link(title=title, path=path, is_relative=path.startswith("/")) for title, path in known.links)
