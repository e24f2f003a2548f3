"""A port named h2c: served when HTTP/2 is spoken there, and ended at once where it is not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flyted.launch.h2c import Ready
from flyted.launch.port import PROXY
from flyted.launch.refused import Refused
from tests.launch.harness import App, Unit, bundle, fserve

Keep = Callable[[App], App]
MakeUnit = Callable[..., Unit]
SAID = "the app cannot start: the port is named h2c, and what listens on {} does not speak HTTP/2 without TLS (uvicorn"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path(PROXY).exists(), reason="no systemd-socket-proxyd here")]
SETTINGS = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
HTTP2 = """
import socket
def listen(port):
    with socket.create_server(('127.0.0.1', port)) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                if connection.recv(65536).startswith(b'PRI * HTTP/2.0'):
                    connection.sendall(SETTINGS)
                    connection.recv(65536)
""".replace("SETTINGS", repr(SETTINGS))
HTTP1 = """
import http.server
def listen(port):
    http.server.ThreadingHTTPServer(('127.0.0.1', port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
UVICORN = """
def listen(port):
    import uvicorn
    async def app(scope, receive, send): raise RuntimeError
    uvicorn.run(app, port=port)
"""
FUNCTION = "\nimport flyte.app\nenv = flyte.app.AppEnvironment(name='x')\n@env.server\ndef serve(): listen(PORT)\n"


def start(unit: Unit, tmp_path: Path, port: int, text: str, *, function: bool) -> App:
    """launch, with a server function or a program."""
    end = FUNCTION if function else "\nlisten(PORT)\n"
    code = bundle(tmp_path, {"a.py": text + end.replace("PORT", str(port))})
    if function:
        return unit.start_on(port, code, fserve("a:env"), "--h2c", "yes", of="--server-port")
    return unit.start_on(port, code, fserve("", args=("python", "a.py")), "--h2c", "yes")


@pytest.mark.parametrize("function", [True, False], ids=["function", "program"])
def test_it_is_ready_when_it_speaks_http2(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int, function: bool
) -> None:
    """And gets what comes to its socket, as it is."""
    app = running(start(make_unit(), tmp_path, port, HTTP2, function=function)).ready()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(app.unit.path))
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.recv(64) == SETTINGS
    assert app.stop() == 0


@pytest.mark.parametrize("function", [True, False], ids=["function", "program"])
@pytest.mark.parametrize("text", [HTTP1, UVICORN], ids=["http.server", "uvicorn"])
def test_what_does_not_speak_it_is_told_so_at_its_start(
    make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int, text: str, function: bool
) -> None:
    """It was served, and each request got 502. 78: to start it again is no use."""
    app = running(start(make_unit(), tmp_path, port, text, function=function))
    assert app.wait() == 78
    assert SAID.format(port) in app.err


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (SETTINGS, True),
        (SETTINGS[:9], True),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", None),
        (b"HTTP/1.0", None),
        (b"<!DOCTYPE HTML>\n", None),
        (b"\x15\x03\x03\x00\x02\x02\x46", None),
        (b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(8), None),
        (b"", False),
    ],
    ids=["settings", "their head", "HTTP/1.1", "short", "HTTP/0.9", "TLS", "another frame", "nothing"],
)
def test_who_speaks_it(answer: bytes, ready: bool | None) -> None:
    """A server begins with its settings (RFC 9113 3.4); of one that says nothing nothing is known."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answer_once, args=(server, answer))
        thread.start()
        target = f"127.0.0.1:{server.getsockname()[1]}"
        if ready is None:
            with pytest.raises(Refused, match="does not speak HTTP/2"):
                Ready().at(target)
        else:
            assert Ready().at(target) is ready
        thread.join()
    assert not Ready().at("127.0.0.1:1")


def _answer_once(server: socket.socket, answer: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(answer)
