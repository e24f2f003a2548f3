"""Writes the notes that are printed when an app is served. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from flyted.contract.app import DEFAULT_MEMORY_BYTES, AppSpec
from flyted.contract.quantity import human_bytes
from flyted.contract.volumes import RO
from flyted.plan import arguments
from flyted.plan.disk import NOT_LIMITED
from flyted.plan.engines.base import Engine
from flyted.plan.engines.shape import open_paths, shape_of
from flyted.plan.facts import Capacity, StoredApp
from flyted.plan.ingress import names
from flyted.plan.ingress.sites import Site
from flyted.plan.replica_room import that_fit

_SHOWN = 3  # paths in a note
_SESSIONS = {"streamlit": "Streamlit", "gradio": "Gradio"}


def notes(spec: AppSpec, machine: Capacity, sites: Sequence[Site] = (), gpus: int = 0) -> Iterator[str]:
    """Yield a line for each thing that the file or a flag asks for and that may not do what its author expects.

    ``gpus``: how many GPUs the machine has of those that the app asks for.
    """
    yield from spec.unmet
    yield from names.notes(spec, sites)
    yield from _more_than_there_is(spec, machine)
    yield from _of_replicas(spec, machine)
    if spec.max_replicas > 1 and spec.max_replicas * spec.gpu_count > gpus:
        yield f"{spec.max_replicas} replicas with {spec.gpu} each: they run as far as this machine's {gpus} are free"
    if spec.disk_bytes:
        yield NOT_LIMITED
    for name, folder in spec.models:
        yield f"model {name} is read from {folder}"
    for use in spec.volumes:
        yield f"volume {use.name} is {use.folder}, at {use.path}" + (", read-only" if use.mode == RO else "")
    shape = shape_of(spec)
    if shape is not None and spec.engine_sleep:
        yield from _of_sleep(spec, shape.engine)
    yield from _of_paths(spec, shape.engine if shape else None)
    yield from arguments.notes(spec)


def replaces(app: StoredApp | None, by: str) -> list[str]:
    """Return a note if a user other than ``by`` deployed the revision that serves."""
    other = app.current.deployed_by if app is not None and app.current is not None else ""
    return [f"revision {app.serving} of this app was deployed by {other}"] if app and other not in ("", by) else []


def _of_sleep(spec: AppSpec, engine: Engine) -> Iterator[str]:
    if not spec.gpu_count:
        yield f"without a GPU {engine.name} frees no memory when it sleeps"
    elif spec.engine_sleep == 1:
        counted = "they count towards the app's Resources(memory=…)"
        yield f"while asleep, {engine.name} keeps the model's weights in memory, where {counted}"


def _of_paths(spec: AppSpec, engine: Engine | None) -> Iterator[str]:
    paths = open_paths(spec)
    if engine is not None and engine.sleep is not None and paths == engine.sleep.openable:
        listed = ", ".join(paths)
        yield f"to sleep, {engine.name} has endpoints that no key protects, so only these paths are open: {listed}"
    elif paths is not None:
        yield f"public paths (its API key required): {_listed(paths)}; to open others: --open-path PATH"
    elif spec.open_paths and "/" not in spec.open_paths:
        yield "--open-path has no effect: all paths of this app are open"


def _more_than_there_is(spec: AppSpec, machine: Capacity) -> Iterator[str]:
    """Yield a note for each limit above the machine's size; a cluster would wait for a larger machine."""
    if spec.memory_bytes > machine.memory_bytes and spec.memory_bytes != DEFAULT_MEMORY_BYTES:
        has = human_bytes(machine.memory_bytes)
        yield f"memory={human_bytes(spec.memory_bytes)} is more than this machine has ({has}): it has no effect"
    if spec.cpu_cores > machine.cpu_cores:
        yield f"cpu={spec.cpu_cores:g} is more than this machine has ({machine.cpu_cores}): it has no effect"


def _of_replicas(spec: AppSpec, machine: Capacity) -> Iterator[str]:
    """Yield a note for what several replicas need together and the machine lacks, and on the sessions of browsers."""
    if spec.max_replicas == 1:
        if spec.sticky:
            yield "--sticky has no effect: this app has at most one replica"
        return
    memory, has = spec.max_replicas * spec.memory_bytes, human_bytes(machine.memory_bytes)
    if memory > machine.memory_bytes:
        default = ", the default," if spec.memory_bytes == DEFAULT_MEMORY_BYTES else ""
        each = f"{spec.max_replicas} replicas with memory={human_bytes(spec.memory_bytes)}{default}"
        most = max(spec.min_replicas, that_fit(spec, machine.memory_bytes))
        yield f"{each} may take {human_bytes(memory)}, and this machine has {has}: at most {most} run"
    cores = spec.max_replicas * spec.cpu_cores
    if cores > machine.cpu_cores >= spec.cpu_cores:
        each = f"{spec.max_replicas} replicas with cpu={spec.cpu_cores:g}"
        yield f"{each} may take {cores:g} CPUs, and this machine has {machine.cpu_cores}: they share these"
    if not spec.sticky and (program := _keeps_sessions(spec)):
        yield (
            f"{program} keeps the state of each visitor in one process: with more than one replica, --sticky sends a "
            "visitor to the same one again"
        )


def _keeps_sessions(spec: AppSpec) -> str:
    """Return the name of the framework of an app whose visitors need the same replica again; "" for others."""
    texts = [*spec.command, spec.type, json.dumps(spec.image)]
    return next((name for word, name in _SESSIONS.items() if any(word in text.lower() for text in texts)), "")


def _listed(paths: tuple[str, ...]) -> str:
    """Return the first few paths as text; ``flytectl app get`` shows all of them."""
    more = f" and {len(paths) - _SHOWN} more (flytectl app get)" if len(paths) > _SHOWN else ""
    return (", ".join(paths[:_SHOWN]) or "none") + more
