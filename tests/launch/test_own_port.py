"""An app that uvicorn serves on the inherited socket answers at its own port too: some programs ask themselves."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.harness import App, Unit, bundle, fserve

pytestmark = pytest.mark.slow

Keep = Callable[[App], App]
MakeUnit = Callable[..., Unit]
SOURCE = """
import asyncio, os, threading, time, urllib.request
import flyte.app
import uvicorn

PORT = int(os.environ["OWN_PORT"])
env = flyte.app.AppEnvironment(name="own", requires_auth=False)

async def asgi(scope, receive, send):
    path = scope["path"]
    body = await asyncio.to_thread(asked, "/inner") if path == "/outer" else path.encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

def asked(path):
    return urllib.request.urlopen(f"http://HOST:{PORT}{path}", timeout=20).read()

@env.server
def serve():  # as Gradio does: a thread serves, and this one asks it whether it has started
    server = uvicorn.Server(uvicorn.Config(asgi, host="BIND", port=PORT, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    print("asked itself:", asked("/started").decode(), flush=True)
    thread.join()
"""


@pytest.mark.parametrize(
    ("bind", "host"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "localhost"), ("localhost", "127.0.0.1")]
)
def test_an_app_reaches_itself(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int, bind: str, host: str
) -> None:
    """At the address where it says that it listens; systemd's socket stays the one for everybody else."""
    unit = make_unit(variables={"OWN_PORT": str(port)})
    code = bundle(tmp_path, {"own.py": SOURCE.replace("BIND", bind).replace("HOST", host)})
    app = running(unit.start(code, fserve("own:env"))).ready()
    app.until("asked itself: /started")
    assert app.get("/outer") == (200, "/inner")
    assert app.stop() == 0, app.err


def test_a_port_that_is_taken_is_no_failure(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """The app's own program may be there first, such as one that it asks."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        unit = make_unit(variables={"OWN_PORT": str(taken.getsockname()[1])})
        source = SOURCE.replace("BIND", "127.0.0.1").replace('    print("asked', '    0 and print("asked')
        app = running(unit.start(bundle(tmp_path, {"own.py": source}), fserve("own:env"))).ready()
        assert app.get("/x") == (200, "/x")
        assert app.stop() == 0, app.err
