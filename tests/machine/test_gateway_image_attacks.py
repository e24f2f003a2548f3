"""Image builds of the stock `flyte` whose gateway is killed, and whose user has had enough; calls that never end."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.machine.kit.gateway import pid, rpc, token
from tests.machine.kit.pypi_flyte import flyte, prepare
from tests.machine.kit.users import AUTHORITY, give, may_serve, until
from tests.machine.test_gateway_images import APP, command

RUN = time.time_ns()


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    prepare()
    may_serve()


@pytest.fixture
def build(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A `flyte build` whose last step has begun, and would take an hour."""
    name = f"stock-ends-{request.node.name.rpartition('_')[2]}"
    text = APP.format(name=name, command=f"sleep 3600; : {name} {RUN}")
    file = give(f"stock/{name.replace('-', '_')}.py", text)[6:]
    with subprocess.Popen(
        command("build", file, "env"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as building:  # fmt: skip
        until(lambda: bool(steps(name)), 300)
        yield building
        assert building.poll() is not None
    until(lambda: not steps(name))


def steps(name: str) -> str:
    return subprocess.run(["pgrep", "-f", f": {name} {RUN}$"], capture_output=True, text=True, check=False).stdout


def test_a_build_whose_gateway_is_killed(build: subprocess.Popen[str]) -> None:
    """Its client is told within moments, and the step ends."""
    os.kill(pid(), signal.SIGKILL)
    said = " ".join(build.communicate(timeout=60)[0].replace("│", " ").split())
    assert build.returncode == 1
    assert "the gateway was restarted during this build" in said, said


def test_a_build_whose_client_is_interrupted(build: subprocess.Popen[str]) -> None:
    """It goes on, as a run on a cluster does, until it is aborted by the name that was shown."""
    os.killpg(build.pid, signal.SIGINT)
    said = build.communicate(timeout=60)[0]
    (run,) = set(re.findall(r"/runs/(r[0-9a-f]{19})", said))
    assert steps("stock-ends-interrupted")
    flyte("abort", "run", run)


def test_calls_that_never_end_hold_no_place() -> None:
    """600 requests without a token whose clients send one byte of a thousand: others are answered at once.

    HAProxy once had 512 connections to the gateway, and counted those whose answer had been sent already.
    """
    path = "/flyteidl2.workflow.RunService/CreateRun"
    head = f"POST {path} HTTP/1.1\r\nHost: flyted.localhost\r\nContent-Type: application/proto\r\n"
    trust = ssl.create_default_context(cafile=str(AUTHORITY))
    with ExitStack() as open_:
        for _ in range(600):
            plain = open_.enter_context(socket.create_connection(("127.0.0.1", 443)))
            client = open_.enter_context(trust.wrap_socket(plain, server_hostname="flyted.localhost"))
            client.sendall(f"{head}Content-Length: 1000\r\n\r\nx".encode())
        status, _ = rpc("-H", f"Authorization: Bearer {token()}", "--max-time", "20")
    assert status == 200
