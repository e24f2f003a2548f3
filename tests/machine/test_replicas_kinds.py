"""Replicas of apps with GPUs, and of apps in the root of their image."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

import pytest

from flyted.contract.names import Replica
from flyted.plan.images import root_mount
from tests.machine.kit import gpus, roots, users
from tests.machine.kit.users import answer, curl, forget_apps, running, serving, until

SHELL = "echo $$ >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"


def states(name: str) -> dict[int, str]:
    """The state of each replica, by its number."""
    return {each["number"]: each["state"] for each in answer("app", "get", name)["replicas"]}


@pytest.mark.usefixtures("fake_gpus", "two_gpus")
def test_each_replica_has_a_gpu_and_there_are_no_more_than_gpus() -> None:
    """With four requests for two devices: two leases, and nobody waits for a third."""
    scaling = "(0, 4), metric=flyte.app.Scaling.Concurrency(1)"
    said = users.by("alice", *serving(gpus.write("gpu-several", replicas=scaling)))
    assert said.returncode == 0, said.stderr
    assert "note: 4 replicas with 1 × GPU each: they run as far as this machine's 2 are free\n" in said.stderr
    url = answer("app", "get", "gpu-several")["url"]
    with contextlib.ExitStack() as held:
        for _ in range(4):
            held.enter_context(running("curl", "-sS", f"{url}/hold"))
        until(lambda: states("gpu-several") == {0: "running", 1: "running"})
        time.sleep(3)
        assert states("gpu-several") == {0: "running", 1: "running"}
        holders = [gpus.holders(uuid)["gpu-several"]["replica"] for uuid in (gpus.L40S, gpus.TWIN)]
        assert sorted(holders) == [0, 1]
        used = answer("app", "get", "gpu-several")["gpu"]["devices"]
        assert {(each["replica"], each["uuid"]) for each in used} == set(
            zip(holders, (gpus.L40S, gpus.TWIN), strict=True)
        )
        assert answer("gpu", "ls")["waiting"] == []
    for number in (0, 1):  # its requests never end by themselves
        unit = f"flyted-app-gpu-several-r1-{number}.service"
        os.kill(int(gpus.show(unit, "MainPID")), signal.SIGKILL)


def test_each_replica_has_its_own_root() -> None:
    """The layers are mounted for each, and unmounted with its units."""
    with roots.layers_folder():
        made = roots.spec(
            "rooted-two", "/bin/sh", "-c", SHELL, port=8080, min_replicas=2, max_replicas=2, requires_auth=False
        )
        (first,) = roots.deployed((made, roots.image((roots.busybox(3),))))
        replicas = [first, Replica(first.app_id, first.revision, 1)]
        until(lambda: states("rooted-two") == {0: "running", 1: "running"})
        assert all(os.path.ismount(root_mount.path(each)) for each in replicas)
        url = answer("app", "get", "rooted-two")["url"]
        assert len({curl(url) for _ in range(4)}) == 2
        forget_apps("rooted-")
        mounts = subprocess.run(["findmnt", "-rno", "TARGET"], capture_output=True, text=True, check=True).stdout
        assert "/run/flyted/roots/" not in mounts
