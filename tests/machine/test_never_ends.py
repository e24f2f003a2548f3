"""An app that does not want to end: SIGTERM is ignored, and systemd's limit is put off again and again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.machine.lively import serve
from tests.machine.people import alice, by, curl, may_serve, running, until

APP = "never-ends"
CLINGS = """
import signal, socket, threading
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
    may_serve()
    yield
    by("alice", "flytectl", "app", "delete", "--yes", APP)


def active() -> str:
    """What systemd says of the app's service."""
    words = ["systemctl", "show", f"flyted-app-{APP}-r1-0.service", "--property=ActiveState", "--value"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_it_is_killed_by_whichever_daemon_is_there() -> None:
    """Put to sleep by a daemon that then ends, it is killed by the next one; and deleted by that one, it is gone."""
    url = serve(APP, at_start=CLINGS)
    with running("flytectl", "app", "sleep", APP):
        until(lambda: active() == "deactivating")
        time.sleep(1)
        subprocess.run(["systemctl", "restart", "flyted"], check=True)
    assert active() == "deactivating"
    until(lambda: active() == "failed", 60)
    assert curl(url)[0] == 200
    began = time.monotonic()
    alice("flytectl", "app", "delete", "--yes", APP)
    assert 20 < time.monotonic() - began < 60, "systemd's own limit is 30 s, and it was put off"
    assert active() == "inactive"
