"""``flytectl serve --no-egress``: the app answers, and reaches nobody."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.machine.kit.users import alice, answer, curl, give, serve

OUTER = "192.0.2.7"  # documentation address (RFC 5737): one more of this machine's own while these tests run
APP = "egress"
SOURCE = """
import socket
import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/reach")
def reach(host: str, port: int) -> str:
    try:
        with socket.create_connection((host, port), 5) as conn:
            return conn.recv(100).decode()
    except OSError as error:
        return repr(error)

env = FastAPIAppEnvironment(
    name="egress", app=app, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, 12)).with_pip_packages("fastapi", "uvicorn"),
)
"""


@pytest.fixture(scope="module", autouse=True)
def _served_file() -> Iterator[None]:
    give("egress.py", SOURCE)
    yield
    alice("flytectl", "app", "delete", "--yes", "--data", APP)


@pytest.fixture(scope="module")
def greeter() -> Iterator[int]:
    """A server of this machine on an address that is not its loopback's, as of a neighbour; its port."""
    subprocess.run(["ip", "address", "replace", f"{OUTER}/32", "dev", "lo"], check=True)

    def greet() -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            with conn:
                conn.sendall(b"hello from outside")

    try:
        with closing(socket.create_server((OUTER, 0))) as listener:
            threading.Thread(target=greet, daemon=True).start()
            yield listener.getsockname()[1]
            listener.shutdown(socket.SHUT_RDWR)
    finally:
        subprocess.run(["ip", "address", "del", f"{OUTER}/32", "dev", "lo"], check=True)


def reached(url: str, port: int) -> str:
    """What the app gets when it connects; that it answers at all is asserted."""
    status, body = curl(f"{url}/reach?host={OUTER}&port={port}")
    assert status == 200, body
    return str(json.loads(body))


def shown() -> tuple[bool, bool]:
    """What ``app get`` says in JSON and as text: whether it may connect."""
    closed = "no connections to other machines" in alice("flytectl", "app", "get", APP).stdout
    return answer("app", "get", APP)["egress"], not closed


def test_an_app_connects_out_unless_it_was_served_without_egress(greeter: int) -> None:
    """Open by default, closed by the flag, open again without it: each is a revision, and ``app get`` says which."""
    url = serve("egress.py")
    assert reached(url, greeter) == "hello from outside"
    assert shown() == (True, True)

    assert serve("egress.py", "--no-egress") == url
    assert "Error" in reached(url, greeter)
    assert shown() == (False, False)
    closed = answer("app", "get", APP)["revision"]
    assert serve("egress.py", "--no-egress") == url
    assert answer("app", "get", APP)["revision"] == closed

    assert serve("egress.py") == url
    assert reached(url, greeter) == "hello from outside"
    assert shown() == (True, True)
    assert answer("app", "get", APP)["revision"] > closed


def test_a_closed_app_stays_closed_after_a_wake(greeter: int) -> None:
    """The flag belongs to the revision, not to one start."""
    url = serve("egress.py", "--no-egress")
    alice("flytectl", "app", "sleep", APP)
    assert "Error" in reached(url, greeter)
    alice("flytectl", "app", "stop", APP)
    alice("flytectl", "app", "start", APP)
    assert "Error" in reached(url, greeter)
