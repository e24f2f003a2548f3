"""Server functions that are no uvicorn: whatever listens on the app's port is served, like any other app."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator

import pytest

from tests.machine.kit.apps import Load, state
from tests.machine.kit.users import (
    alice,
    answer,
    by,
    curl,
    forget_apps,
    give,
    lines_of,
    running,
    serve,
    serving,
    until,
)

HEAD = """
import datetime, http.server, os, subprocess, sys, threading, time
import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name={name!r}, requires_auth=False, image=flyte.Image.from_debian_base(python_version=(3, 13)),
    scaling=flyte.app.Scaling(replicas=(0, 1), scaledown_after=datetime.timedelta(seconds=300)),
    resources=flyte.Resources(cpu=1, memory="256Mi"),
)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(3)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{version}")

    do_POST = do_GET

    def log_message(self, *_args):
        pass

class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024

def listen(port=8080):
    Server(("0.0.0.0", port), Handler).serve_forever()

@env.server
"""
THREAD = HEAD + "def serve():\n    listen()\n"
CHILD = (
    HEAD
    + "def serve():\n"
    + "    subprocess.run([sys.executable, '-c', 'import server_app; server_app.listen()'], check=True)\n"
)
ELSEWHERE = HEAD + "def serve():\n    listen(9000)\n"


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_apps("server-")


def write(text: str, name: str, version: str = "1") -> str:
    """Write the app's file; return its name."""
    return give("server_app.py", text.format(name=name, version=version))


@pytest.mark.parametrize("text", [THREAD, CHILD], ids=["thread", "child"])
def test_whatever_listens_is_served_and_not_on_the_machine(text: str) -> None:
    """http.server in a thread of its own, and a process that the function starts."""
    url = serve(write(text, "server-any"))
    assert curl(url) == (200, "1")
    listening = subprocess.run(["ss", "-Hltn", "sport = :8080"], capture_output=True, text=True, check=True)
    assert listening.stdout == ""
    alice("flytectl", "app", "sleep", "server-any")
    assert state("server-any") == "sleeping"
    assert curl(url) == (200, "1")
    alice("flytectl", "app", "delete", "--yes", "--data", "server-any")


def test_a_sleep_and_a_redeploy_under_load_lose_nothing() -> None:
    """systemd drains what leads to the server before the app is told to end (ExecStop=)."""
    url = serve(write(THREAD, "server-load", "old"))

    async def change() -> None:
        await asyncio.sleep(1)
        await asyncio.to_thread(alice, "flytectl", "app", "sleep", "server-load")
        await asyncio.sleep(1)
        await asyncio.to_thread(serve, write(THREAD, "server-load", "new"))

    assert set(asyncio.run(Load(url, rate=20).during(10, change()))) == {"200"}
    assert curl(url) == (200, "new")


def test_a_request_in_flight_is_answered_before_a_sleep() -> None:
    """The app ends only when the proxy has no connection."""
    url = serve(write(THREAD, "server-slow"))

    async def during() -> tuple[int, str]:
        slow = asyncio.create_task(asyncio.to_thread(curl, f"{url}/slow"))
        await asyncio.sleep(1)
        await asyncio.to_thread(alice, "flytectl", "app", "sleep", "server-slow")
        return await slow

    assert asyncio.run(during()) == (200, "1")
    assert state("server-slow") == "sleeping"


def test_a_server_on_another_port_is_told_at_once() -> None:
    """Its end may be minutes away."""
    with running(*serving(write(ELSEWHERE, "server-else"))) as process:
        seen = lines_of(process)
        until(lambda: any("but the program does on 9000: is port= of the app right?" in line for line in seen))
    by("alice", "flytectl", "app", "delete", "--yes", "--data", "server-else")


def test_a_start_has_the_time_that_it_was_given() -> None:
    """And is ready when its path answers; both are told."""
    file = write(ELSEWHERE, "server-late")
    late = by("alice", *serving("--start-timeout", "8s", "--ready-path", "/ready", file))
    assert late.returncode != 0
    assert "was not ready within 8 s" in late.stderr
    serve(write(THREAD, "server-late"), "--start-timeout", "90", "--ready-path", "/ready")
    app = answer("app", "get", "server-late")
    assert (app["ready_path"], app["start_timeout_s"]) == ("/ready", 90.0)
    shown = alice("flytectl", "app", "get", "server-late").stdout
    assert "when /ready answers within 90 s" in shown


def test_uvicorn_with_workers_has_them() -> None:
    """It served with one, and said so in its log alone."""
    give(
        "server_asgi.py",
        "import os\nasync def app(scope, receive, send):\n    if scope['type'] != 'http': raise RuntimeError\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': str(os.getpid()).encode()})\n",
    )
    text = (
        "import flyte, flyte.app\nenv = flyte.app.AppEnvironment(name='server-two', requires_auth=False,\n"
        "    args='uvicorn server_asgi:app --workers 2', include=['server_asgi.py'],\n"
        "    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages('uvicorn'))\n"
    )
    url = serve(give("server_two.py", text))
    found: set[tuple[int, str]] = set()
    until(lambda: found.add(curl(url)) or len(found) == 2)  # type: ignore[func-returns-value]
    assert {status for status, _ in found} == {200}
