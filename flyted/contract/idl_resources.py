"""Translates the resources of Flyte's App IDL: those of its container, shared memory and accelerators. Pure.

Source of the fields: flyteidl2/core/tasks.proto; of their meaning: flyte/_internal/runtime/resources_serde.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flyted.contract import gpu, quantity
from flyted.contract.app import DEFAULT_MEMORY_BYTES, SHARED_MEMORY
from flyted.contract.errors import InvalidInput
from flyted.contract.idl_fields import message, messages
from flyted.contract.names import printable

_DISK = "EPHEMERAL_STORAGE"  # resources.disk
_NVIDIA = "NVIDIA_GPU"  # the first of GPUAccelerator.DeviceClass, so absent in protobuf-JSON


def unsupported(container: dict[str, Any], extended: dict[str, Any], given: gpu.Ask | None) -> Iterator[str]:
    """Yield what an app asks for and no app can have here. ``given``: the GPUs of the command line, if any."""
    resources = message(container.get("resources"))
    asked = {str(r.get("name")) for part in ("requests", "limits") for r in messages(resources.get(part))}
    accelerator = message(extended.get("gpuAccelerator"))
    maker = str(accelerator.get("deviceClass", _NVIDIA))
    if accelerator.get("acceleratorModel") and not accelerator.get("device") and given is None:
        yield f"resources.gpu of {printable(accelerator['acceleratorModel'])}, without the device's name"
    if maker != _NVIDIA and given is None:
        yield f"resources.gpu of {printable(maker)}: flyted supports only NVIDIA GPUs (--gpu any) or none (--cpu)"
    mounted = message(extended.get("sharedMemory")).get("mountPath", SHARED_MEMORY)
    if mounted != SHARED_MEMORY:
        yield f"resources.shm at {printable(mounted)}: flyted mounts it at {SHARED_MEMORY}"
    for name in sorted(asked - {"CPU", "MEMORY", "GPU", _DISK}):
        yield f"resource {printable(name)}"


def resources(container: dict[str, Any], extended: dict[str, Any]) -> dict[str, Any]:
    """Return the resources that an app gets, as fields of AppSpec: the limit if there is one, else the request.

    ``shm="auto"`` comes without a size: as in Kubernetes, the app's memory is then the limit. Raise
    :class:`InvalidInput` for a quantity that cannot be read or is out of range, and for a request above its limit.
    """
    asked = _asked(message(container.get("resources")))
    memory = quantity.memory_bytes(asked["MEMORY"]) if "MEMORY" in asked else DEFAULT_MEMORY_BYTES
    shared = message(extended.get("sharedMemory"))
    limit = str(shared.get("sizeLimit", ""))
    return {
        "cpu_cores": quantity.cpu_cores(asked["CPU"]) if "CPU" in asked else 0.0,
        "memory_bytes": memory,
        "disk_bytes": quantity.memory_bytes(asked[_DISK], "disk") if _DISK in asked else 0,
        "shm_bytes": (quantity.memory_bytes(limit, "shm") if limit else memory) if shared else 0,
    }


def _asked(resources: dict[str, Any]) -> dict[str, str]:
    """Return what is asked for, by name. Raise :class:`InvalidInput` for a request above its own limit."""
    requests, limits = (
        {str(each.get("name")): str(each.get("value", "")) for each in messages(resources.get(part))}
        for part in ("requests", "limits")
    )
    for name in requests.keys() & limits.keys() & {"CPU", "MEMORY"}:
        if quantity.exceeds(requests[name], limits[name], name.lower()):
            pair = f"({printable(requests[name])}, {printable(limits[name])})"
            raise InvalidInput(
                f"resources.{name.lower()}={pair} asks for more than its limit", hint="give the smaller one first"
            )
    return requests | limits


def gpus(container: dict[str, Any], extended: dict[str, Any], given: gpu.Ask | None) -> dict[str, Any]:
    """Return the GPUs ``given`` on the command line, else those that the file asks for, as fields of AppSpec."""
    ask = _asked_gpus(container, extended) if given is None else given
    return {"gpu_count": ask.count, "gpu_name": ask.name, "gpu_partition": ask.partition}


def _asked_gpus(container: dict[str, Any], extended: dict[str, Any]) -> gpu.Ask:
    resources, accelerator = message(container.get("resources")), message(extended.get("gpuAccelerator"))
    entries = [r for part in ("requests", "limits") for r in messages(resources.get(part)) if r.get("name") == "GPU"]
    if not entries and not accelerator:
        return gpu.NONE
    count = str(entries[-1].get("value", "")) if entries else "1"
    if not gpu.is_number(count):
        raise InvalidInput(f"resources.gpu {printable(count)} is not a number of GPUs")
    device, partition = str(accelerator.get("device", "")), str(accelerator.get("partitionSize", ""))
    return gpu.of_device(device, int(count), partition) if int(count) else gpu.NONE
