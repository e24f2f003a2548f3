"""Server functions that are not uvicorn: whatever listens on the app's port gets the requests."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.harness import App, Unit, bundle, fserve

pytestmark = pytest.mark.slow

Keep = Callable[[App], App]
MakeUnit = Callable[..., Unit]
HEAD = """
import http.server, os, subprocess, sys, threading, time
import flyte.app
env = flyte.app.AppEnvironment(name='x', requires_auth=False)
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(f'{os.getpid()} {self.path}'.encode())
    def log_message(self, *_): pass
def listen(port): http.server.ThreadingHTTPServer(('127.0.0.1', port), H).serve_forever()
"""
UVICORN = """
@env.server
async def serve():
    import uvicorn
    async def app(scope, receive, send):
        if scope['type'] != 'http': raise RuntimeError
        asked.append(scope['path'])
        ready = scope['path'] != '/ready' or asked.count('/ready') > 2
        print('asked', scope['path'], ready, flush=True)
        await send({'type': 'http.response.start', 'status': 200 if ready else 404, 'headers': []})
        await send({'type': 'http.response.body', 'body': b'uvicorn'})
    asked = []
    await uvicorn.Server(uvicorn.Config(app)).serve()
"""


def start(unit: Unit, tmp_path: Path, port: int, text: str, *more: str) -> App:
    """launch, with a server function."""
    code = bundle(tmp_path, {"a.py": HEAD + text.replace("PORT", str(port))})
    return unit.start_on(port, code, fserve("a:env"), *more, of="--server-port")


@pytest.mark.parametrize(
    "text",
    [
        "@env.server\ndef s(): listen(PORT)\n",
        "@env.server\nasync def s(): listen(PORT)\n",  # the loop stands still
        "@env.server\ndef s(): threading.Thread(target=listen, args=(PORT,), daemon=True).start(); time.sleep(999)\n",
        "@env.server\ndef s(): subprocess.run([sys.executable, '-c', 'import a; a.listen(PORT)'], check=True)\n",
    ],
)
def test_whatever_listens_is_served(make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int, text: str) -> None:
    """A request that came before it listened is answered, too; and it ends when it is told to."""
    app = running(start(make_unit(), tmp_path, port, text))
    app.ready_for_who_came_early()
    app.process.send_signal(signal.SIGTERM)
    assert app.process.wait(20) == 0
    with contextlib.suppress(ProcessLookupError):
        os.killpg(app.process.pid, signal.SIGKILL)  # as systemd does with what it has started
    app.wait()


def test_uvicorn_takes_the_socket_itself(make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int) -> None:
    """Nothing stands between, although another server of the app listens on the port."""
    app = running(start(make_unit(), tmp_path, port, UVICORN)).ready()
    assert app.get("/x") == (200, "uvicorn")
    assert app.stop() == 0


def test_it_is_ready_when_its_path_answers(make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int) -> None:
    """``--ready-path``: Ray Serve says 404 before its application is there. Others are answered meanwhile."""
    app = running(start(make_unit(), tmp_path, port, UVICORN, "--ready", "/ready"))
    app.until("asked /ready False")
    app.ready()
    app.until("asked /ready True")
    assert app.stop() == 0


def test_the_end_of_the_server_is_the_end_of_the_app(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int
) -> None:
    """With the server's own words and status."""
    app = running(
        start(make_unit(), tmp_path, port, "@env.server\ndef s():\n    time.sleep(0.5); raise OSError('no port')\n")
    )
    assert app.wait() == 1
    assert "OSError: no port" in app.err


def test_a_proxy_that_cannot_be_started_ends_the_app(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int
) -> None:
    """No process is left to the app: it is told, with a status after which systemd tries again."""
    text = (
        "@env.server\ndef s():\n    import encodings.ascii, encodings.idna, resource\n"
        "    server = http.server.HTTPServer(('127.0.0.1', PORT), H)\n"
        "    if os.getuid() == 0: os.setgid(65534); os.setuid(65534)  # the limit does not count for root\n"
        "    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\n"
        "    server.serve_forever()\n"
    )
    app = running(start(make_unit(), tmp_path, port, text))
    assert app.wait() == 75, app.err
    assert f"the app cannot start: requests cannot be forwarded to port {port}: [Errno 11] Resource" in app.err


def test_without_a_proxy_requests_go_nowhere_so_the_app_ends(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int
) -> None:
    """systemd starts both again with the next request."""
    text = (
        "@env.server\ndef s():\n"
        "    threading.Thread(target=kill, daemon=True).start()\n    listen(PORT)\n"
        "def kill():\n"
        "    time.sleep(2); subprocess.run(['pkill', '-KILL', '-P', str(os.getpid()), 'systemd-socket'], check=True)\n"
    )
    app = running(start(make_unit(), tmp_path, port, text)).ready()
    assert app.wait() == 0
    assert "systemd-socket-proxyd exited (-9): stopping the app" in app.err
