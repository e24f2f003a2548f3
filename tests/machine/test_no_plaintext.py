"""R3.6: nowhere on the machine is a secret in the clear, whatever happens to the app that uses it."""

from __future__ import annotations

import base64
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.leaks import Search
from tests.machine.kit.units import main_pid
from tests.machine.kit.users import alice, answer, curl, give, serve, until

CANARY = "CANARY-" + secrets.token_hex(12)
NEXT = "CANARY-" + secrets.token_hex(12)
APP = """
import os
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
async def root():
    return {"length": len(os.environ["CANARY"]), "file": len(open("/etc/flyte/secrets/CANARY").read())}

@app.get("/segv")
async def segv():
    os.kill(os.getpid(), 11)

env = FastAPIAppEnvironment(
    name="canary", app=app, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn", "websockets"),
    secrets=[
        flyte.Secret(key="CANARY", as_env_var="CANARY"),
        flyte.Secret(key="CANARY", mount=__import__("pathlib").Path("/etc/flyte/secrets")),
    ],
)
"""


SEARCH = Search(CANARY, NEXT)
found = SEARCH.found
pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The app with the canary, while everything on D-Bus is written down."""
    with SEARCH.never_on_the_bus():
        alice("flytectl", "secret", "create", "CANARY", "-", typed=CANARY)
        give("canary.py", APP)
        yield serve("canary.py")


def test_the_search_finds_what_is_there() -> None:
    """A search that cannot fail proves nothing."""
    Path("/var/tmp/planted").write_bytes(b"x" + base64.b64encode(b"ab" + CANARY.encode()))
    assert "/var/tmp/planted" in found()
    Path("/var/tmp/planted").unlink()
    subprocess.run(["logger", CANARY[:-1] + "?"], check=True)
    assert found() == []


def test_an_app_that_runs_has_it_and_nobody_else(url: str) -> None:
    """As a variable and as a file; in no file, command line, journal line or property."""
    assert curl(url) == (200, f'{{"length":{len(CANARY)},"file":{len(CANARY)}}}')
    assert found() == []


def test_a_crash_leaves_no_core(url: str) -> None:
    """SIGSEGV in an app whose memory is full of it."""
    assert curl(f"{url}/segv", "--http1.1")[0] == 502  # by HTTP/2 and an old HAProxy curl asks again: test_life.py
    assert curl(url)[0] == 200
    assert found() == []


def test_sleeping_rotating_and_a_dead_daemon_leave_nothing(url: str) -> None:
    """Stop, wake, replace with a roll, kill -9 of the daemon."""
    alice("flytectl", "app", "sleep", "canary")
    assert found() == []
    assert curl(url)[0] == 200
    alice("flytectl", "secret", "create", "CANARY", "-", "--replace", "--roll", typed=NEXT)
    assert curl(url)[0] == 200
    subprocess.run(["systemctl", "kill", "--signal=KILL", "flyted.service"], check=True)
    until(lambda: subprocess.run(["systemctl", "is-active", "--quiet", "flyted"], check=False).returncode == 0)
    assert answer("app", "get", "canary")["state"] == "running"
    assert found() == []


def test_a_unit_with_secrets_never_swaps(url: str) -> None:
    """Neither the app nor the daemon has a page in swap, or a core limit above nothing."""
    for unit in ("flyted.service", answer("app", "get", "canary")["units"][0]["name"]):
        shown = subprocess.run(
            ["systemctl", "show", "--property=MainPID,MemorySwapMax,LimitCORE", unit],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        values = dict(line.split("=", 1) for line in shown.splitlines())
        assert (values["MemorySwapMax"], values["LimitCORE"]) == ("0", "0")
        status = Path(f"/proc/{values['MainPID']}/status").read_text()
        assert "VmSwap:\t       0 kB" in status


def test_other_apps_and_users_cannot_read_it(url: str) -> None:
    """Not the environment, not the credentials, not the store."""
    unit = answer("app", "get", "canary")["units"][0]["name"]
    pid = main_pid(unit)
    for path in (
        f"/proc/{pid}/environ",
        f"/run/credentials/{unit}/s0",
        "/var/lib/flyted/secrets",
        "/var/lib/flyted/flyted.db",
    ):
        tried = subprocess.run(["runuser", "-u", "alice", "--", "ls", "-l", path], capture_output=True, check=False)
        read = subprocess.run(["runuser", "-u", "alice", "--", "cat", path], capture_output=True, check=False)
        assert read.returncode != 0
        assert not SEARCH.holds(tried.stdout + read.stdout)


def test_deleting_app_and_secret_leaves_nothing(url: str) -> None:
    """The end of the story."""
    alice("flytectl", "app", "delete", "--yes", "--data", "canary")
    alice("flytectl", "secret", "delete", "--yes", "CANARY")
    assert url
    assert found() == []
