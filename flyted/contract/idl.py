"""Translates Flyte's App IDL (``flyteidl2.app.App`` as protobuf-JSON) to AppSpec, for flytectl and gateway. Pure.

A field that this machine cannot honour is never ignored. If the app cannot do without it, it is refused by name, and
all such fields are named together; if it can, the user is notified (``AppSpec.unmet``). A field that flyted does not
know (of a newer SDK) is refused, too.

Source of the fields: flyteidl2/app/app_definition.proto, core/tasks.proto, core/security.proto; of their meaning:
flyte/app/_runtime/app_serde.py. Zero values are absent in protobuf-JSON: ``replicas {max: 1}`` means (0, 1).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flyted.contract import app_parameters, gpu, may_call, quantity
from flyted.contract.app import (
    DEFAULT_PORT,
    DEFAULT_SCALEDOWN_S,
    AppSpec,
)
from flyted.contract.bundles import image_of
from flyted.contract.engines import can_sleep
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.fserve import parameters, program, split
from flyted.contract.idl_fields import SYS_PATH, integer, message, messages, sys_path, unknown, words_of
from flyted.contract.idl_resources import gpus as gpus_of
from flyted.contract.idl_resources import resources
from flyted.contract.idl_resources import unsupported as unsupported_resources
from flyted.contract.idl_secrets import secret_use
from flyted.contract.names import AppKey, link_target, printable
from flyted.contract.scaling import MAX_REPLICAS

_IN_PROCESS = ("uvicorn",)  # programs that serve on the inherited socket and open no port
_KEPT_OPTIONS = ("--resolver", "--resolver-args", "--parameters")
_DROPPED_OPTIONS = (
    "--version", "--image-cache", "--tgz", "--dest", "--raw-data-path", "--project", "--domain", "--org",
)  # fmt: skip
_IDLE = "scaling.scaledown_after"
PICKLED = "--pkl"
"""fserve's option for an app that was pickled (``interactive_mode``, a notebook), with an address as its value."""


def spec_of(
    idl: Mapping[str, Any],
    *,
    image: Mapping[str, Any] | None = None,
    image_files: Mapping[str, str] | None = None,
    image_folders: Mapping[str, str] | None = None,
    bundle: str = "",
    python_env: str = "",
    egress: bool = True,
    gpus: gpu.Ask | None = None,
    secret_in_argv: bool = False,
    open_paths: Sequence[str] = (),
    engine_sleep: int = 0,
    ready_path: str = "",
    start_timeout_s: float = 0.0,
    requests_per_s: float = 0.0,
    sticky: bool = False,
    calls: Sequence[str] = (),
    project: str = "",
    domain: str = "",
) -> AppSpec:
    """Make the AppSpec of one app.

    ``idl`` is ``App`` in protobuf-JSON. ``image`` is Flyte's ``ImageSpec`` likewise, ``image_files`` the text of its
    requirement files by name, ``image_folders`` the SHA-256 of the bundle for each path that it copies. ``bundle`` is
    the SHA-256 of the code bundle. ``gpus`` (``gpu.NONE``: no GPU), ``project`` and ``domain`` override the IDL's.
    ``secret_in_argv``: allow a secret among a program's arguments. ``open_paths``: of an app that checks a key itself,
    paths to open beyond those that the key guards. ``engine_sleep``: the level at which an idle engine sleeps; 0: it
    does not. ``ready_path``, ``start_timeout_s``, ``requests_per_s``, ``sticky``: as in :class:`AppSpec`.
    ``calls``: names of apps that it may call, besides those in its parameters.

    Raise :class:`InvalidInput` for values that are wrong anywhere, and :class:`Unsupported` for values that are right
    on a cluster but not here; its message names every such field.
    """
    idl = message(idl)
    spec = message(idl.get("spec"))
    identity = message(message(idl.get("metadata")).get("id"))
    key = AppKey(
        project or identity.get("project", ""), domain or identity.get("domain", ""), identity.get("name", "")
    )
    container = message(spec.get("container"))
    problems = [f"{field} is not known to this version of flyted" for field in dict.fromkeys(unknown(idl))]
    problems += _unsupported(spec, container, gpus)
    if problems:
        raise Unsupported(
            f"app '{key}' asks for what flyted does not support: {'; '.join(problems)}",
            hint="change these fields, or deploy the file to a Flyte cluster",
        )
    command, given = _command(words_of(container)), parameters(words_of(container))
    app_parameters.check(key, command, given)
    secrets = tuple(secret_use(s) for s in messages(message(spec.get("securityContext")).get("secrets")))
    env = [(str(e.get("key", "")), str(e.get("value", ""))) for e in messages(container.get("env"))]
    container_port = _container_port(container)
    named_port = container_port or DEFAULT_PORT
    # as on Kubernetes: args alone are for the image's own program
    entrypoint = bool(container.get("image")) and not container.get("command")
    port, server_port = (named_port, 0) if entrypoint else _opened(command, named_port, dict(env))
    scaling, profile = message(spec.get("autoscaling")), message(spec.get("profile"))
    timeout = message(spec.get("timeouts")).get("requestTimeout")
    ingress = message(spec.get("ingress"))
    return AppSpec(
        key=key,
        command=command,
        image={} if python_env else image_of(image, image_files, image_folders),
        bundle=bundle,
        env=tuple((k, v) for k, v in env if k != SYS_PATH),
        sys_path=sys_path(dict(env).get(SYS_PATH, "")),
        secrets=secrets,
        **_scaling(scaling),
        sticky=sticky,
        scaledown_after_s=quantity.duration_s(scaling.get("scaledownPeriod", f"{DEFAULT_SCALEDOWN_S}s"), _IDLE),
        request_timeout_s=quantity.duration_s(timeout, "timeouts.request") if timeout else 0.0,
        python_env=python_env,
        egress=egress,
        container_port=container_port,
        port=port,
        server_port=server_port,
        h2c=_speaks_h2c(key, command, port or server_port, container),
        ready_path=ready_path,
        start_timeout_s=start_timeout_s,
        requests_per_s=requests_per_s,
        entrypoint=entrypoint,
        secret_in_argv=secret_in_argv,
        open_paths=tuple(path.rstrip("/") or "/" for path in open_paths),
        calls=may_call.all_of((*calls, *may_call.in_parameters(given)), key.name),
        engine_sleep=engine_sleep,
        subdomain=str(ingress.get("subdomain", "")),
        custom_domain=str(ingress.get("cname", "")).lower().rstrip("."),
        requires_auth=not message(spec.get("securityContext")).get("allowAnonymous"),
        type=str(profile.get("type", "")),
        description=str(profile.get("shortDescription", "")),
        links=tuple(
            (str(x.get("title", "")), link_target(str(x.get("path", "")))) for x in messages(spec.get("links"))
        ),
        unmet=tuple(_unmet(message(idl.get("metadata")), scaling, spec)),
        **resources(container, message(spec.get("extendedResources"))),
        **gpus_of(container, message(spec.get("extendedResources")), gpus),
    )


def asks_gpu(idl: Mapping[str, Any]) -> bool:
    """Report whether the file itself asks for a GPU (or another accelerator) for this app."""
    spec = message(message(idl).get("spec"))
    resources = message(message(spec.get("container")).get("resources"))
    entries = [r for part in ("requests", "limits") for r in messages(resources.get(part))]
    accelerator = message(spec.get("extendedResources")).get("gpuAccelerator")
    return bool(accelerator) or any(r.get("name") == "GPU" for r in entries)


def may_have_several(idl: Mapping[str, Any]) -> bool:
    """Report whether an app may have more than one replica."""
    return _replicas(message(message(message(idl).get("spec")).get("autoscaling")))[1] > 1


def runs_sleeper(idl: Mapping[str, Any]) -> bool:
    """Report whether an app's program is an engine that can sleep without ending."""
    container = message(message(message(idl).get("spec")).get("container"))
    return can_sleep(words_of(container))


def _unsupported(spec: dict[str, Any], container: dict[str, Any], gpus: gpu.Ask | None) -> Iterator[str]:
    """Yield every field that is set and not supported, by the name that the SDK gives it."""
    if spec.get("pod"):
        yield "pod_template needs Kubernetes"
    if any(message(message(spec.get("securityContext")).get("runAs")).values()):
        yield "service_account exists only in Kubernetes"
    yield from _unsupported_scale(message(spec.get("autoscaling")))
    ingress = message(spec.get("ingress"))
    if ingress.get("private"):
        yield f"private={ingress['private']!r} (the ingress serves all apps)"
    yield from unsupported_resources(container, message(spec.get("extendedResources")), gpus)
    yield from _unsupported_program(words_of(container))


def _unsupported_scale(scaling: dict[str, Any]) -> Iterator[str]:
    low, high = _replicas(scaling)
    if low > MAX_REPLICAS:
        yield f"replicas=({low}, {high}): at least {low}, and flyted runs at most {MAX_REPLICAS} of an app"


def _replicas(scaling: dict[str, Any]) -> tuple[int, int]:
    """Return the least and the greatest number of replicas; ``replicas=0`` arrives as a message without fields."""
    replicas = scaling.get("replicas")
    if replicas is None:
        return 0, 1
    return integer(message(replicas).get("min")), integer(message(replicas).get("max"))


def _scaling(scaling: dict[str, Any]) -> dict[str, Any]:
    """Return what decides about the number of replicas, as fields of AppSpec."""
    low, high = _replicas(scaling)
    metric = message(scaling.get("scalingMetric"))
    concurrency, rate = (message(metric.get(name)).get("targetValue") for name in ("concurrency", "requestRate"))
    return {
        "min_replicas": low,
        "max_replicas": min(max(1, high), MAX_REPLICAS),
        "concurrency": integer(concurrency) if high > 1 else 0,
        "request_rate": integer(rate) if high > 1 else 0,
    }


def _unmet(metadata: dict[str, Any], scaling: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    """Yield each field that is set and not supported, but not refused, since the app runs without it."""
    low, high = _replicas(scaling)
    if high > MAX_REPLICAS:
        yield f"replicas=({low}, {high}): flyted runs at most {MAX_REPLICAS} replicas of an app"
    if high == 0:
        yield "replicas=0 is treated as (0, 1): a request starts the app; to keep it stopped: flytectl app stop"
    for name, word in (("concurrency", "Concurrency"), ("requestRate", "RequestRate")):
        if name in message(scaling.get("scalingMetric")) and high <= max(1, low):
            yield f"scaling.metric={word} has no effect with replicas=({low}, {high})"
    if labels := message(metadata.get("labels")):
        names = ", ".join(printable(name) for name in sorted(labels)[:8])
        yield f"labels ({names}) have no effect: flyted does not select by labels"
    for name, field in (("cluster_pool", "clusterPool"), ("cluster", "cluster")):
        if spec.get(field, "default") not in ("", "default"):
            yield f"{name}={printable(spec[field])} has no effect: flyted runs on one machine"


def _unsupported_program(command: list[str]) -> Iterator[str]:
    """Yield what the command asks of Flyte's fserve and flyted's ``launch`` does not support."""
    if command[:1] == ["fserve"]:
        yield from may_call.unsupported(parameters(command))


def _container_port(container: dict[str, Any]) -> int:
    """Return the port that the file names, or the default; 0, which is absent, for AppSpec to refuse.

    Raise :class:`InvalidInput` for others that are no TCP port.
    """
    ports = [port.get("containerPort", 0) for port in messages(container.get("ports"))]
    port = ports[0] if ports else DEFAULT_PORT
    if type(port) is not int or not 0 <= port < 65536:
        raise InvalidInput(f"port {printable(port)} of the app is not a TCP port")
    return port


def _opened(command: tuple[str, ...], port: int, env: dict[str, str]) -> tuple[int, int]:
    """Return the port that a program opens, and the port that a server function may open: each is ``port`` or 0.

    Both are 0 for a program that serves on the inherited socket: uvicorn, unless it has workers, which share a port.
    """
    if not split(command)[1]:
        return 0, port
    words = program(command)[1]
    in_process = bool(words) and posixpath.basename(words[0]) in _IN_PROCESS
    return (0, 0) if in_process and not _has_workers(words, env) else (port, 0)


def _has_workers(words: list[str], env: dict[str, str]) -> bool:
    """Report whether uvicorn starts processes of its own (uvicorn/main.py: ``--workers``, ``--reload``)."""
    named = [word.partition("=")[2] or after for word, after in zip(words, [*words[1:], ""], strict=True)
             if word.partition("=")[0] == "--workers"]  # fmt: skip
    workers = named[-1] if named else env.get("UVICORN_WORKERS") or env.get("WEB_CONCURRENCY") or "1"
    return workers != "1" or "--reload" in words


def _speaks_h2c(key: AppKey, command: tuple[str, ...], port: int, container: dict[str, Any]) -> bool:
    """Report whether the app's port speaks HTTP/2 without TLS. Its name says so, as in Knative and therefore in Flyte.

    Raise :class:`Unsupported` for names other than ``h2c`` and ``http1``, and for ``h2c`` of an app that cannot speak
    it: one without a port, or uvicorn.
    """
    ports = messages(container.get("ports"))
    name = str(ports[0].get("name", "")) if ports else ""
    if name not in ("", "http1", "h2c"):
        raise Unsupported(f"app '{key}': a port named {printable(name)} is not known", hint='name it "h2c" or "http1"')
    words = [posixpath.basename(word) for word in program(command)[1][:3]]
    if name == "h2c" and (port == 0 or any(one in words for one in _IN_PROCESS)):
        raise Unsupported(
            f"app '{key}': its port is named h2c, and uvicorn supports only HTTP/1.1",
            hint='name the port "http1", or start a server that speaks HTTP/2',
        )
    return name == "h2c"


def _command(words: list[str]) -> tuple[str, ...]:
    """Return the command without options that differ at every run of an unchanged file, or mean nothing here.

    Raise :class:`Unsupported` for an option of fserve that flyted does not know.
    """
    if words[:1] != ["fserve"]:
        return tuple(words)
    kept = ["fserve"]
    rest = iter(words[1:])
    for word in rest:
        if word == "--":
            return (*kept, word, *rest)
        value = next(rest, "")
        if word in _KEPT_OPTIONS:
            kept += [word, value]
        elif word == PICKLED:
            kept += [word, "bundle"]
        elif word not in _DROPPED_OPTIONS:
            raise Unsupported(f"fserve option {printable(word)} is not known to this version of flyted")
    return (*kept, "--")
