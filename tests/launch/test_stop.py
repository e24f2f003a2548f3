"""A stop loses no request: what was accepted is answered, what was not waits for the next start."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flyted.launch.words import KEEPS
from tests.launch.harness import App, Unit, app_bundle, bundle

pytestmark = pytest.mark.slow

Keep = Callable[[App], App]
MakeUnit = Callable[..., Unit]
RATE = 150  # requests a second
STOPS = 4


class Load:
    """An open loop of requests, each on a connection of its own, as the ingress makes them (`http-reuse never`)."""

    def __init__(self, path: Path) -> None:
        self.path, self.answers, self.lost = path, 0, list[str]()
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.workers: list[threading.Thread] = []
        self.clock = threading.Thread(target=self._run)
        self.clock.start()

    def _run(self) -> None:
        while not self.over.wait(1 / RATE):
            worker = threading.Thread(target=self._one)
            worker.start()
            self.workers.append(worker)

    def _one(self) -> None:
        connection = http.client.HTTPConnection("x", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        try:
            connection.sock.connect(str(self.path))
            connection.request("POST", "/", body=b"once")
            ok, reason = connection.getresponse().read() == b"ok", "wrong body"
        except OSError as error:
            ok, reason = False, repr(error)
        except http.client.HTTPException as error:
            ok, reason = False, repr(error)
        connection.close()
        with self.lock:
            self.answers += ok
            self.lost += [] if ok else [reason]

    def finish(self) -> int:
        """Ends the load; returns how many requests there were."""
        self.over.set()
        self.clock.join()
        for worker in self.workers:
            worker.join()
        return len(self.workers)


def test_no_request_is_lost_over_stops_under_load(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """Stops at 150 requests a second, with work in flight and a blocked loop now and then: every request is answered,
    by this process or, out of the kernel's backlog, by the next."""
    unit, code = make_unit(), app_bundle(tmp_path, "slow.py")
    command = ["uvicorn", "slow:app", "--no-access-log"]
    app = running(unit.start(code, command)).ready()
    load = Load(unit.path)
    for _ in range(STOPS):
        time.sleep(0.5)
        assert app.stop() == 0, app.err
        assert unit.notice().startswith("STOPPING=1")
        assert unit.notice() == "EXITED"
        app = running(unit.start(code, command)).ready()
    requests = load.finish()
    app.stop()
    assert requests > 100
    assert (load.answers, load.lost) == (requests, [])


def test_an_answer_that_takes_long_is_finished(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """SIGTERM while a request is worked on; a connection that never sends anything does not hold the stop for ever."""
    text = (
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': raise RuntimeError\n"
        "    print('begun')\n"
        "    await asyncio.sleep(1.5)\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'done'})\n"
    )
    unit = make_unit()
    app = running(unit.start(bundle(tmp_path, {"a.py": text}), ["uvicorn", "a:app"])).ready()
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(str(unit.path))
    answers: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: answers.append(app.get()))
    asking.start()
    app.until("begun")
    begun = time.monotonic()
    assert app.stop() == 0
    took = time.monotonic() - begun
    asking.join()
    silent.close()
    assert answers == [(200, "done")]
    assert 1 < took < 8


def test_a_stop_during_the_apps_start_up_ends_at_once(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """Nothing was accepted yet, so nothing is lost; the waiting request is answered by the next start."""
    text = (
        "import asyncio, os\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await receive()\n"
        "        if not os.path.exists('fast'):\n"
        "            open('fast', 'w').close(); print('starting')\n"
        "            await asyncio.sleep(600)\n"
        "        await send({'type': 'lifespan.startup.complete'})\n"
        "        await receive()\n"
        "        await send({'type': 'lifespan.shutdown.complete'})\n"
        "        return\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'second'})\n"
    )
    unit, code = make_unit(), bundle(tmp_path, {"a.py": text})
    app = running(unit.start(code, ["uvicorn", "a:app"])).until("starting")
    answers: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: answers.append(app.get()))
    asking.start()
    begun = time.monotonic()
    assert app.stop() == 0
    assert time.monotonic() - begun < 3
    assert unit.notice().startswith("STOPPING=1")
    second = running(unit.start(code, ["uvicorn", "a:app"])).ready()
    asking.join()
    assert answers == [(200, "second")]
    second.stop()


def test_a_busy_systemd_does_not_hold_the_stop(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """A notice waits while the receiver's queue is full: for a bounded time, then the app stops all the same."""
    unit = make_unit()
    app = running(unit.start(app_bundle(tmp_path, "slow.py"), ["uvicorn", "slow:app"])).ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        flood.connect(unit.notices.getsockname())
        with pytest.raises(BlockingIOError):
            for _ in range(100_000):
                flood.send(b"X")
        app.process.terminate()
        assert app.process.wait(20) == 0
    unit.notices.close()  # whoever waits to say that it has exited
    app.wait()
    assert "cannot send STOPPING to systemd" in app.err


def test_a_thread_that_never_ends_does_not_hold_the_stop(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """Python waits for an app's threads when it exits; a stop does not, beyond a bound."""
    text = (
        "import threading\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': raise RuntimeError\n"
    )
    app = running(make_unit().start(bundle(tmp_path, {"a.py": text}), ["uvicorn", "a:app"])).ready()
    begun = time.monotonic()
    assert app.stop() == 0
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize("times", [2, 5])
def test_more_signals_do_no_harm(make_unit: MakeUnit, running: Keep, tmp_path: Path, times: int) -> None:
    """systemd may send SIGTERM again; the stop ends cleanly, sooner."""
    app = running(make_unit().start(app_bundle(tmp_path, "slow.py"), ["uvicorn", "slow:app"])).ready()
    for _ in range(times - 1):
        app.process.terminate()
    assert app.stop() == 0


def _kept(unit: Unit) -> socket.socket:
    """A connection on which a request has been answered, as the ingress keeps them."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(str(unit.path))
    assert b"connection: close" not in _asked(connection)
    return connection


def _asked(connection: socket.socket) -> bytes:
    """The head of the answer to one more request."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    data = b""
    while not data.endswith(b"ok"):
        data += connection.recv(65536)
    return data.lower()


def test_a_stop_leaves_it_to_the_ingress_to_close(make_unit: MakeUnit, running: Keep, tmp_path: Path) -> None:
    """Each further answer says that it is the last; an idle connection is not closed while the ingress may use it."""
    unit = make_unit()
    app = running(unit.start(app_bundle(tmp_path, "slow.py"), ["uvicorn", "slow:app", "--timeout-keep-alive", "1"]))
    notice = unit.notice()
    assert notice == f"READY=1\nSTATUS=serving demo; {KEEPS}"
    with _kept(unit) as used, _kept(unit) as idle:
        time.sleep(1.5)
        app.process.terminate()
        assert unit.notice().startswith("STOPPING=1")
        assert b"\r\nconnection: close\r\n" in _asked(used)
        assert used.recv(1) == b""
        assert app.process.poll() is None
        assert b"\r\nconnection: close\r\n" in _asked(idle)
    assert app.process.wait(20) == 0


@pytest.mark.parametrize("flag", ["--limit-concurrency", "--limit-max-requests"])
def test_a_server_that_counts_is_not_kept(make_unit: MakeUnit, running: Keep, tmp_path: Path, flag: str) -> None:
    """Idle connections would count; and it may end at any request."""
    unit = make_unit()
    running(unit.start(app_bundle(tmp_path, "slow.py"), ["uvicorn", "slow:app", flag, "1000"]))
    assert unit.notice() == "READY=1\nSTATUS=serving demo"
