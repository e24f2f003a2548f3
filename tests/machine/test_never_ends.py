"""An app that does not want to end: SIGTERM is ignored, and systemd's limit is put off again and again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import gpus, users
from tests.machine.kit.apps import serve
from tests.machine.kit.gpus import L40S, ONE
from tests.machine.kit.users import alice, answer, by, curl, running, serving, until

APP = "never-ends"
HOLDER, NEXT = "never-gives-way", "waits-for-it"
CLINGS = """
import signal, socket, threading, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal = lambda *_: None
def cling():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        while True:
            manager.sendto(b"EXTEND_TIMEOUT_USEC=3600000000", "/run/systemd/notify")
            time.sleep(0.5)
threading.Thread(target=cling, daemon=True).start()
"""


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    for name in (APP, HOLDER, NEXT):
        by("alice", "flytectl", "app", "delete", "--yes", "--data", name)


def active(name: str = APP) -> str:
    """What systemd says of an app's service."""
    words = ["systemctl", "show", f"flyted-app-{name}-r1-0.service", "--property=ActiveState", "--value"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_it_is_killed_by_whichever_daemon_is_there() -> None:
    """Put to sleep by a daemon that then ends, it is killed by the next one; and deleted by that one, it is gone."""
    url = serve(APP, at_start=CLINGS)
    with running("flytectl", "app", "sleep", APP):
        until(lambda: active() == "deactivating")
        time.sleep(1)
        subprocess.run(["systemctl", "restart", "flyted"], check=True)
    assert active() == "deactivating"
    until(lambda: active() == "failed", 120)
    assert curl(url)[0] == 200
    began = time.monotonic()
    alice("flytectl", "app", "delete", "--yes", "--data", APP)
    assert 20 < time.monotonic() - began < 100, "systemd's own limit is 30 s, and it was put off"
    assert active() == "inactive"


def test_its_gpu_comes_back_when_it_is_killed() -> None:
    """It is to give way to an app that waits for the only GPU: that one gets it, by no hand of anybody's."""
    with gpus.driver():
        gpus.has(ONE)
        users.serve(gpus.write(HOLDER, at_start=CLINGS))
        pid = gpus.pid_of(HOLDER)
        gpus.has(ONE, f"proc {L40S} {pid} 2048")
        assert gpus.holders(L40S)[HOLDER]["used_bytes"] == 2 << 30
        began = time.monotonic()
        with running(*serving("-q", gpus.write(NEXT))):
            until(lambda: active(HOLDER) == "deactivating")
            assert list(gpus.holders(L40S)) == [HOLDER], "nobody gets a GPU whose holder has not ended"
            until(lambda: active(HOLDER) != "deactivating", 120)
            assert 20 < time.monotonic() - began < 100
            until(lambda: answer("app", "get", NEXT)["state"] == "running")
        assert not Path(f"/proc/{pid}").exists()
        assert list(gpus.holders(L40S)) == [NEXT]
        for name in (HOLDER, NEXT):
            alice("flytectl", "app", "delete", "--yes", "--data", name)
