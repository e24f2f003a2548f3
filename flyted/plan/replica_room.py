"""Says for how many replicas of an app the machine has room, and why for no more. Pure.

Each replica may take its app's memory limit, so it is added only where so much is free: what runs already would be
killed for it otherwise. All replicas are ports of one bridge (flyted/net/plan.py); the last ones are left to deploys
and builds. How many GPUs are free says ``gpus/room.py``.
"""

from __future__ import annotations

from flyted.contract.app import DEFAULT_MEMORY_BYTES, AppSpec
from flyted.contract.errors import InvalidInput
from flyted.contract.quantity import human_bytes
from flyted.plan.facts import Capacity, Facts

NETWORKS = 1021
"""The most apps and replicas that have a network at a time (flyted/net/plan.py: FIRST to LAST)."""
KEPT = 21
"""Of these, the ones that scaling leaves to deploys, to apps that wake and to builds of images."""
_SMALLER = "ask for less memory (flyte.Resources(memory=…)) or for fewer replicas (flyte.app.Scaling(replicas=…))"


def that_fit(spec: AppSpec, memory_bytes: int) -> int:
    """Return how many replicas have room in so many bytes at a time; at least 1, since a limit may exceed them."""
    return max(1, memory_bytes // spec.memory_bytes)


def check(spec: AppSpec, machine: Capacity, gpus: int) -> None:
    """Raise :class:`InvalidInput` for a minimum of replicas that can never run together on this machine.

    ``gpus``: how many GPUs it has of those that the app asks for. A single replica with a limit above the machine's
    memory may run, as may those whose file names no memory. Replicas with one GPU each may share it, once it is known
    how much they take.
    """
    least = spec.min_replicas
    if least < 2:
        return
    asked = f"app '{spec.key}': replicas=({least}, {spec.max_replicas}) needs {least}"
    together, has = least * spec.memory_bytes, human_bytes(machine.memory_bytes)
    if spec.memory_bytes != DEFAULT_MEMORY_BYTES and together > machine.memory_bytes:
        each = f"{asked} × memory={human_bytes(spec.memory_bytes)}"
        raise InvalidInput(f"{each}, together {human_bytes(together)}, and this machine has {has}", hint=_SMALLER)
    if spec.gpu_count > 1 and least * spec.gpu_count > gpus:
        raise InvalidInput(
            f"{asked} × {spec.gpu}, together {least * spec.gpu_count}, and this machine has {gpus}",
            hint="ask for fewer GPUs (flyte.Resources(gpu=…)) or for fewer replicas (flyte.app.Scaling(replicas=…))",
        )


def room(spec: AppSpec, running: int, promised_bytes: int, networks: int, facts: Facts) -> tuple[int, str]:
    """Return how many replicas may be added to an app now, and for people what limits their number.

    ``running``: those that it has. ``promised_bytes``: the memory that replicas of all apps take only now, since they
    start. ``networks``: the replicas of all apps that have units, or will.
    """
    limit = f"each may take {human_bytes(spec.memory_bytes)}"
    found = [(NETWORKS - KEPT - networks, f"the network of apps has no place left ({NETWORKS})")]
    if facts.memory_bytes:
        has = human_bytes(facts.memory_bytes)
        found.append((that_fit(spec, facts.memory_bytes) - running, f"{limit}, and this machine has {has}"))
    if facts.free_bytes is not None:
        free = max(0, facts.free_bytes - promised_bytes)
        found.append((free // spec.memory_bytes, f"{limit}, and {human_bytes(free)} of memory are free"))
    number, why = min(found, key=lambda each: each[0])
    return max(0, number), why
