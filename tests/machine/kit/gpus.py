"""A machine with GPUs, faked at the lowest border: the C library below nvidia-ml-py, and the device nodes.

Everything above is real: nvidia-ml-py, the helper, the lease, systemd's device rules. The nodes have the numbers of
harmless devices of the kernel, all different: an open that is allowed succeeds, one that is not gives EPERM.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.machine.kit import users
from tests.machine.kit.packages import install
from tests.machine.kit.users import answer, by, curl, give, running, until

STATE = Path("/run/fake-nvml/state")
LIBRARY = Path("/usr/local/lib/libnvidia-ml.so.1")
SOURCE = Path(__file__).parents[1] / "nvml/fake_nvml.c"
PROC_DRIVER = Path("/run/fake-nvml/driver")  # shown to the helper as /proc/driver
DROP_IN = Path("/run/systemd/system/flyted-gpu.service.d/driver.conf")


def misc(*names: str) -> tuple[int, int]:
    """The numbers of the first of these devices that the kernel has: not each kernel has all, or the same numbers."""
    rows = (line.split() for line in Path("/proc/misc").read_text().splitlines())
    minors = {name: int(minor) for minor, name in rows}
    return 10, next((minors[name] for name in names if name in minors), 0)


NODES = {  # path → (major, minor) of a device that anybody may open, if the rules of the cgroup let him
    "/dev/nvidiactl": (10, 229),  # fuse
    "/dev/nvidia-uvm": (10, 200),  # tun
    "/dev/nvidia0": (10, 237),  # loop-control
    "/dev/nvidia1": (10, 234),  # btrfs-control
    "/dev/nvidia2": misc("userfaultfd"),
    "/dev/nvidia-caps/nvidia-cap21": (203, 0),  # cpuid
    "/dev/nvidia-caps/nvidia-cap22": misc("autofs", "vga_arbiter", "vsock"),
}
WAIT_S = 12
L40S = "GPU-1f3a0b2c-0000-4000-8000-000000000001"
TWIN = "GPU-2f3a0b2c-0000-4000-8000-000000000002"
A100 = "GPU-3f3a0b2c-0000-4000-8000-000000000003"
PART = "MIG-5f3a0b2c-0000-4000-8000-000000000005"
ONE = f"gpu {L40S} 0 46068 300 NVIDIA L40S"
TWO = f"{ONE}\ngpu {TWIN} 1 46068 300 NVIDIA L40S"
SPLIT = (
    f"gpu {A100} 2 40960 100 NVIDIA A100-SXM4-40GB\nsplit {A100}\n"
    f"part {A100} {PART} 3 0 4864 NVIDIA A100-SXM4-40GB MIG 1g.5gb"
)

APP = """
import asyncio, datetime, os, subprocess, sys
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
async def root():
    return {{"pid": os.getpid(), "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"), "version": {version!r}}}

@app.get("/open")
async def opened(path: str):
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        return error.strerror
    return "opened"

released = asyncio.Event()

@app.get("/hold")
async def hold():
    await released.wait()

@app.get("/release")
async def release():
    released.set()

@app.get("/child")
async def child():
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
    return subprocess.Popen([sys.executable, "-c", code]).pid

if os.environ.get("FLYTE_INTERNAL_EXECUTION_PROJECT"):  # on the server
    exec({at_start!r})

env = FastAPIAppEnvironment(
    name={name!r}, app=app, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn", "websockets"),
    scaling=flyte.app.Scaling(replicas={replicas}, scaledown_after=datetime.timedelta(seconds=600)),
    resources=flyte.Resources(cpu=1, memory="512Mi", gpu={gpu}),
)
"""


def write(name: str, gpu: str = "1", *, version: str = "1", at_start: str = "", replicas: str = "(0, 1)") -> str:
    """The app's file in alice's home; ``gpu`` is an expression, as it stands in ``flyte.Resources``."""
    text = APP.format(name=name, gpu=gpu, version=version, at_start=at_start, replicas=replicas)
    return give(f"{name.replace('-', '_')}.py", text)


def serve(name: str, gpu: str = "1", *flags: str, version: str = "1") -> str:
    """Serves it; its URL."""
    return users.serve(write(name, gpu, version=version), *flags)


def has(*lines: str) -> None:
    """From now on this is what NVML says; written at once, since the library reads at any time."""
    draft = STATE.with_suffix(".new")
    draft.write_text("\n".join(lines) + "\n")
    draft.chmod(0o644)
    draft.rename(STATE)


def pid_of(name: str) -> int:
    """The main process of an app."""
    unit = next(u["name"] for u in answer("app", "get", name)["units"] if u["name"].endswith(".service"))
    return int(show(unit, "MainPID"))


def show(unit: str, key: str) -> str:
    """One property of a unit."""
    done = subprocess.run(
        ["systemctl", "show", "--value", "-p", key, unit], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def holders(uuid: str) -> dict[str, Any]:
    """Who holds a device, by app."""
    return {h["app"]: h for h in device(uuid)["holders"]}


def device(uuid: str) -> dict[str, Any]:
    """One row of ``flytectl gpu ls --json``, partitions too."""
    rows = answer("gpu", "ls")["gpus"]
    return next(d for gpu in rows for d in (gpu, *gpu["partitions"]) if d["uuid"] == uuid)


@contextlib.contextmanager
def capabilities(*pairs: Any) -> Iterator[None]:
    """The files of /proc/driver/nvidia/capabilities with these minors: path, number, path, number."""
    for path, minor in zip(pairs[::2], pairs[1::2], strict=True):
        file = PROC_DRIVER / "nvidia/capabilities" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\nDeviceFileModify: 1\n")
    DROP_IN.parent.mkdir(exist_ok=True)
    DROP_IN.write_text(f"[Service]\nBindReadOnlyPaths={PROC_DRIVER}:/proc/driver\n")
    _restart_helper()
    try:
        yield
    finally:
        shutil.rmtree(DROP_IN.parent)
        _restart_helper()


def _restart_helper() -> None:
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "stop", "flyted-gpu.service"], check=True, capture_output=True)


def real() -> bool:
    """Whether the machine has NVIDIA's own driver."""
    return Path("/proc/driver/nvidia/version").exists()


@contextlib.contextmanager
def driver() -> Iterator[None]:
    """The library and the nodes; afterwards the machine has no driver again."""
    install("gcc", "libc6-dev")
    STATE.parent.mkdir(mode=0o755, exist_ok=True)
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(LIBRARY), str(SOURCE)], check=True)
    subprocess.run(["ldconfig"], check=True)
    for path, (major, minor) in NODES.items():
        Path(path).parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        Path(path).chmod(0o666)
    _restart_helper()
    try:
        yield
    finally:
        LIBRARY.unlink()
        subprocess.run(["ldconfig"], check=True)
        for path in NODES:
            Path(path).unlink()
        _restart_helper()


def can_open(url: str, path: str) -> str:
    """``opened``, or why an app cannot open a node."""
    return str(json.loads(curl(f"{url}/open?path={path}")[1]))


def cuda(url: str) -> str:
    """What an app's CUDA would see."""
    return str(json.loads(curl(f"{url}/")[1])["cuda"])


def journal(unit: str) -> str:
    """What is in the journal about a unit."""
    done = subprocess.run(["journalctl", "-b", "-o", "cat", "-u", unit], capture_output=True, text=True, check=True)
    return done.stdout


def service(name: str) -> str:
    """The service of an app."""
    return next(str(u["name"]) for u in answer("app", "get", name)["units"] if u["name"].endswith(".service"))


def finding(name: str) -> Any:
    """What doctor says about one thing."""
    checks = json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]
    return next(check for check in checks if check["name"] == name)


@contextlib.contextmanager
def busy(name: str) -> Iterator[None]:
    """A request that lasts: the app is not idle."""
    url = answer("app", "get", name)["url"]
    with running("curl", "-sS", f"{url}/hold"):
        until(lambda: in_flight(name) == 1)
        yield
        if in_flight(name):
            assert curl(f"{url}/release")[0] == 200


def in_flight(name: str) -> int:
    """Requests that an app answers now."""
    return int((answer("app", "get", name)["requests"] or {"in_flight": 0})["in_flight"])
