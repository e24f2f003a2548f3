"""The same on a real GPU: skipped where the machine has no NVIDIA driver, run where it has one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.machine.kit.gpus import real
from tests.machine.kit.users import alice, answer, curl, forget_apps, give, serve, until

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not real(), reason="this machine has no NVIDIA driver"),
]

GIB = 1 << 30
APP = """
import ctypes, datetime, os
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
cuda = ctypes.CDLL("libcuda.so.1") if os.environ.get("FLYTE_INTERNAL_EXECUTION_PROJECT") else None
kept = []

def must(result):
    if result:
        raise RuntimeError(f"CUDA error {result}")

@app.get("/take")
def take(gib: int):
    count, context, place = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    must(cuda.cuInit(0))
    must(cuda.cuDeviceGetCount(ctypes.byref(count)))
    must(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
    must(cuda.cuCtxSetCurrent(context))
    must(cuda.cuMemAlloc_v2(ctypes.byref(place), ctypes.c_size_t(gib << 30)))
    must(cuda.cuMemsetD8_v2(place, 7, ctypes.c_size_t(gib << 30)))
    kept.append(place.value)
    return {"count": count.value, "visible": os.environ["CUDA_VISIBLE_DEVICES"]}

env = FastAPIAppEnvironment(
    name="real-gpu", app=app, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn", "websockets")
    {more},
    scaling=flyte.app.Scaling(replicas=(0, 1), scaledown_after=datetime.timedelta(seconds=600)),
    resources=flyte.Resources(cpu=1, memory="4Gi", gpu=1),
)
"""


@pytest.fixture(autouse=True)
def _gone() -> Iterator[None]:
    yield
    forget_apps("")


@pytest.mark.parametrize("more", ["", '.with_commands(["true"])'], ids=["environment", "root"])
def test_cuda_computes_on_the_lease_and_gives_the_memory_back(more: str) -> None:
    """One GPU of however many, also in a root; its use is seen and learned; asleep nothing of it is left."""
    url = serve(give("real_gpu.py", APP.replace("{more}", more)))
    took = json.loads(curl(f"{url}/take?gib=1")[1])
    held = answer("app", "get", "real-gpu")["gpu"]["devices"]
    assert (took["count"], took["visible"]) == (1, held[0]["uuid"])
    gpu = next(g for g in answer("gpu", "ls")["gpus"] if g["uuid"] == held[0]["uuid"])
    assert gpu["holders"][0]["used_bytes"] > GIB
    alice("flytectl", "app", "sleep", "real-gpu")
    until(lambda: next(g for g in answer("gpu", "ls")["gpus"] if g["uuid"] == gpu["uuid"])["state"] == "free")
    assert answer("app", "get", "real-gpu")["gpu"]["peak_bytes"] > GIB
    assert json.loads(curl(f"{url}/take?gib=1")[1])["count"] == 1
