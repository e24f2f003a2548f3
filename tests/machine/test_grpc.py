"""gRPC through the ingress: a port named h2c is HTTP/2 from the client to the program. With grpcio on both sides."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.machine.kit.apps import state
from tests.machine.kit.users import alice, answer, curl, forget_apps, give, refused, serve, until

PROGRAM = Path(__file__).parents[1] / "apps" / "grpc_echo.py"
SOURCE = """
import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name={name!r}, args={args!r}, port=flyte.app.Port(8080, name={port!r}), requires_auth={auth},
    include=["grpc_echo.py"],
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("grpcio"),
)
"""
FUNCTION = """
import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name={name!r}, port=flyte.app.Port(8080, name="h2c"), requires_auth=False, include=["grpc_echo.py"],
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages({package!r}),
)

@env.server
def serve():
    {body}
"""
GRPC = "import grpc_echo; grpc_echo.serve('8080')"
HYPERCORN = """
    import asyncio
    import hypercorn.asyncio
    import hypercorn.config

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["http_version"].encode()})

    config = hypercorn.config.Config()
    config.bind = ["0.0.0.0:8080"]
    asyncio.run(hypercorn.asyncio.serve(app, config, shutdown_trigger=asyncio.Event().wait))
"""
UVICORN = """
    import uvicorn

    async def app(scope, receive, send):
        raise RuntimeError

    uvicorn.run(app, port=8080)
"""
CA = "/etc/flyted/ca.pem"


@pytest.fixture(scope="module", autouse=True)
def _program() -> Iterator[None]:
    give("grpc_echo.py", PROGRAM.read_text())
    yield
    forget_apps("grpc-")


def write(name: str, *, port: str = "h2c", auth: bool = False, args: str = "python grpc_echo.py 8080") -> str:
    """The app's file."""
    return give(f"{name.replace('-', '_')}.py", SOURCE.format(name=name, port=port, auth=auth, args=args))


def call(name: str, url: str, token: str = "") -> dict[str, Any]:
    """What the client found, with the grpcio of the app's own image."""
    where = urlsplit(url)
    python = f"{answer('app', 'get', name)['image']['path']}/bin/python"
    words = [python, str(PROGRAM), f"{where.hostname}:{where.port or 443}", ca(), *([token] if token else [])]
    found: dict[str, Any] = json.loads(alice("sudo", *words).stdout)
    return found


def ca() -> str:
    """A file with the CA's certificate."""
    path = Path("/home/alice/ca.pem")
    path.write_text(alice("flytectl", "ca", "show", "--pem").stdout)
    return str(path)


def test_a_grpc_server_is_called_streams_and_wakes() -> None:
    """Messages, status, metadata, trailers and streams in both directions; asleep, the first call wakes it."""
    url = serve(write("grpc-open"))
    assert answer("app", "get", "grpc-open")["protocol"] == "h2c"
    for _ in range(2):
        found = call("grpc-open", url)
        assert (found["echo"], found["failed"]) == ("hello", ["NOT_FOUND", "no such thing"])
        assert (found["chat"], found["rest"]) == (["one!", "two!"], 0)
        assert found["spread"] > 0.8, "a stream comes as it is sent"
        assert "x-forwarded-for" in found["names"]
        assert "x-flyte-user" not in found["names"]
        until(lambda: answer("app", "get", "grpc-open")["requests"]["in_flight"] == 0)
        alice("flytectl", "app", "sleep", "grpc-open")
        assert state("grpc-open") == "sleeping"
    assert curl(f"{url}/", "--http1.1")[0] in (404, 415, 502), "a gRPC server has no pages"


def test_a_grpc_server_that_asks_for_a_token() -> None:
    """In the metadata `authorization`; without it a call ends at once, with gRPC's own word for it."""
    url = serve(write("grpc-closed", auth=True))
    assert call("grpc-closed", url)["failed"][0] == "UNAUTHENTICATED"
    found = call("grpc-closed", url, alice("flytectl", "token").stdout.strip())
    assert (found["echo"], "x-flyte-user" in found["names"], "authorization" in found["names"]) == (
        "hello",
        True,
        False,
    )


def function(name: str, package: str, body: str) -> str:
    """The file of an app with a server function."""
    text = FUNCTION.format(name=name, package=package, body=body.strip())
    return give(f"{name.replace('-', '_')}.py", text)


def test_a_server_function_may_speak_it() -> None:
    """grpcio by calls, streams and a wake; hypercorn, to a client that knows HTTP/1.1 only."""
    url = serve(function("grpc-function", "grpcio", GRPC))
    for _ in range(2):
        found = call("grpc-function", url)
        assert (found["echo"], found["chat"], found["rest"]) == ("hello", ["one!", "two!"], 0)
        until(lambda: answer("app", "get", "grpc-function")["requests"]["in_flight"] == 0)
        alice("flytectl", "app", "sleep", "grpc-function")
        assert state("grpc-function") == "sleeping"
    url = serve(function("grpc-hypercorn", "hypercorn", HYPERCORN))
    assert curl(f"{url}/", "--http1.1") == (200, "2")


def test_a_function_that_does_not_speak_it_is_told_so_at_once() -> None:
    """By whoever serves it, and whoever asks later; its start has not to run out of time."""
    began = time.monotonic()
    said = refused("flytectl", "serve", function("grpc-wrong", "uvicorn", UVICORN), status=8)
    assert time.monotonic() - began < 240, "300 s is the time for a start"
    why = "the port is named h2c, and what listens on 8080 does not speak HTTP/2 without TLS (uvicorn does not)"
    assert why in said
    assert why in answer("app", "get", "grpc-wrong")["reason"]


def test_what_cannot_speak_it_is_refused() -> None:
    """At serve, by name: it was served, and each request failed."""
    said = refused("flytectl", "serve", write("grpc-never", args="uvicorn main:app"), status=2)
    assert "its port is named h2c, and uvicorn supports only HTTP/1.1" in said
    said = refused("flytectl", "serve", write("grpc-never", port="grpc"), status=2)
    assert "a port named 'grpc' is not known" in said
    shutil.rmtree("/home/alice/__pycache__", ignore_errors=True)
