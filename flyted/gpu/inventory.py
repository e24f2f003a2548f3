"""Reads from NVML everything that flyted needs, as plain data. Sizes are in bytes.

A GPU that fails does not hide the others: NVML's message becomes the ``error`` of that GPU. A missing driver, or one
of another version than its library, becomes the ``reason`` of the whole inventory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml

from .machine import capability_minors, driver_of_the_kernel, memory_of_the_machine, process

Data = dict[str, Any]

_REASONS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "the NVIDIA driver is not installed (no libnvidia-ml.so.1)",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed but not loaded (sudo modprobe nvidia)",
    pynvml.NVML_ERROR_NO_PERMISSION: "the NVIDIA device nodes cannot be opened (ls -l /dev/nvidia*)",
}
PROC = Path("/proc")


def inventory() -> Data:
    """Return the versions of driver and CUDA, and every GPU; an NVML error becomes data, and is never raised."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _nothing(_reason(error))
    try:
        return {
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "cuda": _cuda(),
            "reason": "",
            "devices": [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())],
        }
    except pynvml.NVMLError as error:
        return _nothing(f"the NVIDIA driver does not answer: {error}")
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _nothing(reason: str) -> Data:
    return {"driver": driver_of_the_kernel(PROC), "cuda": "", "reason": reason, "devices": []}


def _reason(error: pynvml.NVMLError) -> str:
    if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        kernel, library = driver_of_the_kernel(PROC) or "another version", "another version"
        with contextlib.suppress(pynvml.NVMLError):  # this call works without a driver
            library = pynvml.nvmlSystemGetNVMLVersion()
        return f"the NVIDIA driver in the kernel is {kernel}, its library is {library}: reboot"
    return _REASONS.get(error.value, f"the NVIDIA driver cannot be used: {error}")


def _cuda() -> str:
    version = pynvml.nvmlSystemGetCudaDriverVersion()
    return f"{version // 1000}.{version % 1000 // 10}"


def _gpu(index: int) -> Data:
    data = _empty(f"index {index}")
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        data["uuid"] = pynvml.nvmlDeviceGetUUID(handle)
        data["name"] = pynvml.nvmlDeviceGetName(handle)
        data["minor"] = pynvml.nvmlDeviceGetMinorNumber(handle)
        _measure(handle, data)
        data["split"] = _is_split(handle)
        if data["split"]:
            data["partitions"] = list(_partitions(handle, data))
    except pynvml.NVMLError as error:
        data["error"] = str(error)
    return data


def _empty(uuid: str) -> Data:
    return {
        "uuid": uuid, "name": "NVIDIA GPU", "minor": 0, "total": 0, "used": 0, "processes": [], "split": False,
        "partitions": [], "profile": "", "capabilities": [], "error": "",
    }  # fmt: skip


def _measure(handle: Any, data: Data) -> None:
    data["processes"] = _processes(handle)
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        data["total"], data["used"] = memory.total, memory.total - memory.free
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_NOT_SUPPORTED:
            raise
        # GB10 and similar GPUs share the machine's memory
        data["total"] = memory_of_the_machine(PROC)
        data["used"] = sum(each["used"] for each in data["processes"])


def _processes(handle: Any) -> list[Data]:
    """Return the processes that use the GPU to compute or to draw, by PID.

    NVML lists a process that does both twice, with the same figure: it is counted once.
    """
    found: dict[int, int] = {}
    ask: tuple[Callable[[Any], list[Any]], ...] = (
        pynvml.nvmlDeviceGetComputeRunningProcesses,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses,
    )
    for each in ask:
        try:
            for one in each(handle):
                found[one.pid] = max(found.get(one.pid, 0), one.usedGpuMemory or 0)
        except pynvml.NVMLError as error:
            if error.value not in (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND):
                raise
    return [{"pid": pid, "used": used, **process(PROC, pid)} for pid, used in sorted(found.items())]


def _is_split(handle: Any) -> bool:
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError:
        return False  # a GPU that cannot be split
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _partitions(handle: Any, gpu: Data) -> Iterator[Data]:
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except pynvml.NVMLError:
            continue  # no partition has this index
        data = _empty(f"{gpu['uuid']}, partition {index}")
        try:
            data["uuid"] = pynvml.nvmlDeviceGetUUID(part)
            data["name"], data["minor"] = pynvml.nvmlDeviceGetName(part), gpu["minor"]
            data["profile"] = data["name"].rpartition("MIG ")[2]
            _measure(part, data)
            instance, compute = pynvml.nvmlDeviceGetGpuInstanceId(part), pynvml.nvmlDeviceGetComputeInstanceId(part)
            data["capabilities"] = capability_minors(PROC, gpu["minor"], instance, compute)
        except pynvml.NVMLError as error:
            data["error"] = str(error)
        except OSError as error:
            data["error"] = f"its device nodes are not known: {error}"
        yield data
