"""GPUs for apps in the root of their image: the driver's files come with the lease, as the machine has them then.

The driver is made of small libraries with its names (kit/nvidia.py); NVML and the nodes are those of kit/gpus.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.contract.names import Replica
from flyted.plan.facts import ImageFact
from flyted.plan.gpus.driver import binds as driver_binds
from tests.machine.kit import nvidia, roots
from tests.machine.kit.gpus import L40S, ONE, TWIN, TWO, has
from tests.machine.kit.nvidia import ETC, RUN, Driver
from tests.machine.kit.roots import deployed, image, spec
from tests.machine.kit.units import sh, show
from tests.machine.kit.users import alice, answer, curl, forget_apps, until
from tests.machine.test_root_apps import FSERVE
from tests.machine.test_sandbox_live import exposure

LIB = "/usr/lib/flyted/nvidia/lib"
PROBE = """
import ctypes, os, subprocess
from pathlib import Path
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

def tried(what):
    try:
        return what()
    except Exception as error:
        return type(error).__name__ + ": " + str(error)[:200]

def opened(path):
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        return error.strerror
    return "opened"

@app.get("/")
def look():
    run = lambda *words: tried(lambda: subprocess.run(words, capture_output=True, text=True).stdout.strip())
    return {
        "cuda": tried(lambda: ctypes.CDLL("libcuda.so.1").driver()),
        "ml": tried(lambda: ctypes.CDLL("libnvidia-ml.so.1") and "loaded"),
        "child": run("python3", "-c", "import ctypes; print(ctypes.CDLL('libcuda.so').driver())"),
        "smi": [run(each) for each in ("nvidia-smi", "/usr/bin/nvidia-smi", "/usr/lib/flyted/nvidia/bin/nvidia-smi")],
        "env": {name: os.environ.get(name) for name in (
            "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_CTK", "LD_LIBRARY_PATH", "LD_PRELOAD")},
        "opens": {f"/dev/{name}": opened(f"/dev/{name}") for name in (
            "nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1")},
        "links": tried(lambda: sorted(os.listdir("/usr/lib/flyted/nvidia/lib"))),
        "writes": tried(lambda: Path("/usr/lib/flyted/nvidia/lib/x").write_text("x")),
        "secret": tried(lambda: Path("/usr/lib/flyted/nvidia/lib/libsecret.so.1").read_text()),
    }

env = FastAPIAppEnvironment(name="rooted", app=app, image="auto", requires_auth=False)
"""
SHELL = """
{ nvidia-smi; echo "$CUDA_VISIBLE_DEVICES $LD_LIBRARY_PATH"; } >/tmp/index.html
exec python3 -m http.server -d /tmp 8080
"""


@pytest.fixture(scope="module")
def apps(fake_gpus: None) -> Iterator[dict[str, Replica]]:
    """One app of each kind, all asleep: a server function, one without a GPU, an environment, and a program."""
    has(TWO)
    with roots.layers_folder():
        base, site = roots.debian(11, "python3-minimal", "python3", "ca-certificates"), roots.site(12)
        full = (base, site, roots.files(13, main_py=PROBE))
        rooted = image(full, (("LD_LIBRARY_PATH", "/usr/local/cuda/lib64"),), python=roots.PYTHON, workdir="/srv")
        bundle = roots.bundled("main.py", PROBE)
        wanted = [
            (spec("rooted-gpu", *FSERVE, bundle=bundle, gpu_count=1), rooted),
            (spec("rooted-none", *FSERVE, bundle=bundle), rooted),
            (spec("rooted-venv", *FSERVE, bundle=bundle, gpu_count=1), ImageFact(roots.PYTHON[: -len("/bin/python")])),
            (spec("rooted-shell", "/bin/sh", "-c", SHELL, port=8080, gpu_count=1), image(full)),
        ]
        names = (each.key.name.removeprefix("rooted-") for each, _ in wanted)
        yield dict(zip(names, deployed(*wanted), strict=True))
        forget_apps("rooted-")


@pytest.fixture
def driver() -> Iterator[Driver]:
    """A driver with a spec; all apps are asleep."""
    with nvidia.installed("570.1") as found:
        found.spec(ETC / "nvidia.json")
        yield found
        sleep("gpu", "none", "venv", "shell")


def sleep(*names: str) -> None:
    """Their services have ended, and the memory of their leases is back."""
    for name in names:
        alice("flytectl", "app", "sleep", f"rooted-{name}")
    until(lambda: not any(gpu["holders"] for gpu in answer("gpu", "ls")["gpus"]))


def ask(name: str) -> str:
    """What an app answers to alice; it wakes for it."""
    status, body = curl(f"https://rooted-{name}.apps.localhost/")
    assert status == 200, body + sh("journalctl", "-n30", "-o", "cat", "-u", f"flyted-app-rooted-{name}-r1-0.service")
    return body.strip()


def seen(name: str = "gpu") -> dict[str, object]:
    """What the probe sees."""
    return dict(json.loads(ask(name)))


def test_an_app_sees_its_gpu_and_the_driver(apps: dict[str, Replica], driver: Driver) -> None:
    """By a spec: libraries by each of their names, nvidia-smi, variables, and exactly the nodes of its lease."""
    found = seen()
    assert (found["cuda"], found["ml"], found["child"]) == (5701, "loaded", "5701")
    assert found["smi"] == ["smi 570.1"] * 3
    mine = 0 if found["env"]["CUDA_VISIBLE_DEVICES"] == L40S else 1  # type: ignore[index]
    assert found["env"] == {
        "CUDA_VISIBLE_DEVICES": (L40S, TWIN)[mine], "NVIDIA_VISIBLE_DEVICES": "void", "NVIDIA_CTK": "1",
        "LD_LIBRARY_PATH": f"/usr/local/cuda/lib64:{LIB}", "LD_PRELOAD": None,
    }  # fmt: skip
    assert found["opens"] == {
        "/dev/nvidiactl": "opened", "/dev/nvidia-uvm": "opened", f"/dev/nvidia{mine}": "opened",
        f"/dev/nvidia{1 - mine}": "Operation not permitted",
    }  # fmt: skip
    assert str(found["writes"]).startswith("OSError: [Errno 30]")
    assert found["links"] == [
        "libcuda.so", "libcuda.so.1", "libcuda.so.570.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1",
        "libnvidia-ptxjitcompiler.so.570.1",
    ]  # fmt: skip
    lines = ask("shell").splitlines()
    assert lines == ["smi 570.1", f"{(L40S, TWIN)[1 - mine]} {LIB}"]


def test_an_app_without_gpus_sees_none(apps: dict[str, Replica], driver: Driver) -> None:
    """Neither the driver's files nor a node."""
    found = seen("none")
    assert str(found["cuda"]).startswith("OSError: libcuda.so.1: cannot open")
    assert str(found["links"]).startswith("FileNotFoundError")
    assert set(found["opens"].values()) == {"No such file or directory"}  # type: ignore[attr-defined]
    assert all(said.startswith("FileNotFoundError") for said in found["smi"])  # type: ignore[attr-defined]
    assert found["env"] == {
        "CUDA_VISIBLE_DEVICES": None, "NVIDIA_VISIBLE_DEVICES": None, "NVIDIA_CTK": None,
        "LD_LIBRARY_PATH": "/usr/local/cuda/lib64", "LD_PRELOAD": None,
    }  # fmt: skip


def test_the_sandbox_is_that_of_an_app_with_gpus(apps: dict[str, Replica], driver: Driver) -> None:
    """As PID 1 has it, property by property, beside one in an environment."""
    for name in ("venv", "gpu"):
        ask(name)
    plain, rooted = apps["venv"], apps["gpu"]
    expected = roots.in_root(plain, rooted, binds=[f"{'-' * missing}{a}:{b}" for a, b, missing, _ in driver_binds()])
    expected["DeviceAllow"] = expected["DeviceAllow"].translate(str.maketrans("01", "10"))  # each has its own GPU
    assert show(rooted.service, *roots.VARIES) == expected
    assert roots.program(rooted) == roots.program(plain)
    assert exposure(rooted.service) <= exposure(plain.service)


def test_a_sleeping_app_wakes_with_another_driver(apps: dict[str, Replica], driver: Driver) -> None:
    """Nothing is deployed, nor are units made anew; also where the spec is still the old driver's."""
    unit, path = apps["gpu"].socket, "ActiveEnterTimestampMonotonic"
    assert seen()["cuda"] == 5701
    before = sh("systemctl", "show", "-P", path, unit)
    sleep("gpu")
    with nvidia.installed("580.2"):  # the spec lists what is not there now: ldconfig says what is
        found = seen()
        assert (found["cuda"], found["smi"]) == (5802, ["smi 580.2"] * 3)
        assert "libcuda.so.570.1" not in found["links"]  # type: ignore[operator]
        assert found["env"]["NVIDIA_VISIBLE_DEVICES"] is None  # type: ignore[index]
        assert any("it belongs to another driver" in said["detail"] for said in nvidia.findings())
    assert sh("systemctl", "show", "-P", path, unit) == before


def test_without_a_spec_the_linker_knows(apps: dict[str, Replica], driver: Driver) -> None:
    """What ldconfig has, and the programs in /usr/bin; doctor says so."""
    (ETC / "nvidia.json").unlink()
    nvidia.forgotten()
    found = seen()
    assert (found["cuda"], found["ml"], found["smi"]) == (5701, "loaded", ["smi 570.1"] * 3)
    assert found["env"]["NVIDIA_VISIBLE_DEVICES"] is None  # type: ignore[index]
    (said,) = nvidia.findings()
    assert said["ok"]
    assert said["detail"].startswith("no CDI spec; by ldconfig: ")
    assert "missing" not in said["detail"]


def test_yaml_and_the_more_important_folder(apps: dict[str, Replica], driver: Driver) -> None:
    """NVIDIA's tool writes YAML, at each boot to /run."""
    driver.spec(RUN / "nvidia.yaml", "NVIDIA_CTK=2")
    assert seen()["env"]["NVIDIA_CTK"] == "2"  # type: ignore[index]
    (said,) = nvidia.findings()
    assert said["detail"].startswith("CDI spec /run/cdi/nvidia.yaml: ")


def test_a_hostile_spec_shows_nothing(apps: dict[str, Replica], driver: Driver) -> None:
    """Files that an app may not see, variables that lead to code: what is left of the spec works."""
    secret = Path(shutil.copy(driver.files[0], "/etc/flyted-secret.so.1"))
    try:
        driver.spec(ETC / "nvidia.json", "LD_PRELOAD=/tmp/x.so", "PATH=/tmp", more=[
            (secret, "/usr/lib/libsecret.so.1"), ("/etc/shadow", "/usr/bin/shadow"),
            ("/var/lib/flyted/flyted.db", "/usr/lib/libdb.so"), (str(driver.smi), "/etc/passwd"),
        ])  # fmt: skip
        found = seen()
        assert found["cuda"] == 5701
        assert str(found["secret"]).startswith("FileNotFoundError")
        assert found["env"]["LD_PRELOAD"] is None  # type: ignore[index]
        assert [each.name for each in Path("/run/flyted/nvidia/bin").iterdir()] == ["nvidia-smi"]
        assert any("not below /usr" in said["detail"] for said in nvidia.findings())
    finally:
        secret.unlink()


def test_a_broken_spec_costs_nothing_but_a_line_of_doctor(apps: dict[str, Replica], driver: Driver) -> None:
    """The linker's cache stands in for it."""
    for text, said in (
        ("{", "Expecting property name"),
        ('{"kind": "nvidia.com/gpu", "cdiVersion": "7.0.0"}', "cdiVersion '7.0.0', which is not known"),
        ("[" * 50_000, "nests too deeply"),
    ):
        (ETC / "nvidia.json").write_text(text)
        assert any(said in each["detail"] and not each["ok"] for each in nvidia.findings()), said
    assert seen()["cuda"] == 5701


def test_without_the_driver_a_start_says_what_is_missing(apps: dict[str, Replica]) -> None:
    """NVML is there, libcuda is not: refused with words, in the app's log. An app in an environment may start."""
    has(ONE)
    nvidia.forgotten()
    try:
        status, _body = curl("https://rooted-gpu.apps.localhost/")
        assert status == 503
        lines = alice("flytectl", "logs", "rooted-gpu", "-n9").stdout
        assert "libcuda.so.1 of the NVIDIA driver was not found" in lines
        (said,) = nvidia.findings()
        assert (said["ok"], "missing: libcuda.so.1" in said["detail"]) == (False, True)
        assert "libcuda1" in said["hint"]
        assert curl("https://rooted-venv.apps.localhost/")[0] == 200
        sleep("venv")
    finally:
        has(TWO)
