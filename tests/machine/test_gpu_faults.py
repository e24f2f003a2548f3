"""GPUs that break, memory that is not freed, and a daemon that is down or killed while apps hold leases."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.machine.kit.gpus import (
    L40S,
    ONE,
    TWIN,
    TWO,
    busy,
    can_open,
    cuda,
    device,
    finding,
    has,
    holders,
    journal,
    serve,
    service,
    show,
    write,
)  # fmt: skip
from tests.machine.kit.users import alice, answer, curl, refused, serving, until

pytestmark = pytest.mark.usefixtures("fake_gpus", "two_gpus")


def test_memory_that_does_not_come_back_is_given_to_nobody() -> None:
    """The driver still has it although the app is gone: the next one gets the other; then it is free again."""
    url = serve("gpu-leak")
    leaky = cuda(url)
    alice("flytectl", "app", "sleep", "gpu-leak")
    until(lambda: device(leaky)["state"] == "free")
    assert curl(url)[0] == 200
    leaky = cuda(url)
    has(
        TWO.replace(f"{leaky} 0 46068 300", f"{leaky} 0 46068 9300").replace(
            f"{leaky} 1 46068 300", f"{leaky} 1 46068 9300"
        )
    )
    alice("flytectl", "app", "sleep", "gpu-leak")
    until(lambda: device(leaky)["state"] == "returning")
    for name in ("gpu-next",):
        assert cuda(serve(name)) != leaky
    assert device(leaky)["holders"][0]["used_bytes"] == 9000 << 20
    until(lambda: "was not released, so its GPU stays reserved" in journal("flyted"))
    assert finding("gpu memory")["ok"] is False
    has(TWO)
    assert cuda(url) == leaky


def test_what_is_left_of_an_app_is_killed() -> None:
    """A child that outlives its unit and holds memory: killed through the unit's cgroup; then the GPU is free."""
    has(ONE)
    url = serve("gpu-child")
    drop_in = Path(f"/run/systemd/system/{service('gpu-child')}.d/leave.conf")
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nKillMode=process\n")
    try:
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        child = int(curl(f"{url}/child")[1])
        has(ONE, f"proc {L40S} {child} 2048")
        assert holders(L40S)["gpu-child"]["used_bytes"] == 2 << 30
        alice("flytectl", "app", "sleep", "gpu-child")
        assert Path(f"/proc/{child}").exists()
        assert device(L40S)["state"] == "returning"
        until(lambda: device(L40S)["state"] == "free")
        assert not Path(f"/proc/{child}").exists()
        assert "killing its remaining processes" in journal("flyted")
    finally:
        shutil.rmtree(drop_in.parent)


def test_a_gpu_that_is_lost_while_running() -> None:
    """XID 79: its app is ended and says why, to clients too; the other app goes on; the GPU is shown as broken."""
    urls = {name: serve(name) for name in ("gpu-lost", "gpu-well")}
    uuid = cuda(urls["gpu-lost"])
    has(TWO, f"xid 1 {cuda(urls['gpu-well'])} 31")  # a fault of the program's own: nothing happens
    until(lambda: "reports XID 31" in journal("flyted"))
    assert answer("app", "get", "gpu-well")["state"] == "running"
    has(TWO, f"lost {uuid}", f"xid 2 {uuid} 79")
    until(lambda: curl(urls["gpu-lost"])[0] == 503)  # at once: two seconds later it is tried again
    assert answer("app", "get", "gpu-lost")["state"] == "failed"
    assert "its GPU is lost" in answer("app", "get", "gpu-lost")["reason"]
    assert "XID 79" in answer("app", "get", "gpu-lost")["reason"]
    assert cuda(urls["gpu-well"]) != uuid
    rows = answer("gpu", "ls")["gpus"]
    assert [row["error"] for row in rows if row["state"] == "broken"] == ["GPU is lost"]
    assert finding("gpu")["ok"] is False


def test_a_wake_gets_its_lease_while_flyted_is_down() -> None:
    """The request starts the unit by itself, the unit's question starts flyted, which grants."""
    url = serve("gpu-wake")
    alice("flytectl", "app", "sleep", "gpu-wake")
    subprocess.run(["systemctl", "stop", "flyted.service"], check=True)
    assert cuda(url) in (L40S, TWIN)
    assert show("flyted.service", "ActiveState") == "active"
    assert can_open(url, "/dev/nvidia0" if cuda(url) == L40S else "/dev/nvidia1") == "opened"


def test_leases_outlive_the_daemon() -> None:
    """SIGKILL: the new daemon knows who holds what since when, and gives it to nobody else."""
    has(ONE)
    serve("gpu-kept")
    before = holders(L40S)["gpu-kept"]
    subprocess.run(["systemctl", "kill", "-s", "KILL", "flyted.service"], check=True)
    until(lambda: show("flyted.service", "ActiveState") == "active" and holders(L40S) == {"gpu-kept": before})
    with busy("gpu-kept"):
        refused(*serving(write("gpu-thief")), status=8)
    subprocess.run(["systemctl", "stop", "flyted.service"], check=True)
    subprocess.run(["systemctl", "stop", service_of("gpu-kept")], check=True)
    subprocess.run(["systemctl", "start", "flyted.service"], check=True)
    until(lambda: device(L40S)["state"] == "free")  # what ended while nobody looked is found out too


def service_of(name: str) -> str:
    """The service of an app, without asking the daemon."""
    done = subprocess.run(
        ["systemctl", "list-units", "--plain", "--no-legend", f"flyted-app-{name}-r*.service"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()[0]
