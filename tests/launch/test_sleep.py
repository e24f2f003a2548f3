"""vLLM's sleep as launch does it, with a program of the same endpoints: what is asked while it sleeps never hangs."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flyted.launch import engine_sleep
from flyted.launch.port import PROXY
from tests.launch.harness import ROOT, App, Unit, bundle, fserve

Keep = Callable[[App], App]
MakeUnit = Callable[..., Unit]
ENGINE = (ROOT / "tests" / "apps" / "sleeping_engine.py").read_bytes()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path(PROXY).exists(), reason="no systemd-socket-proxyd here")]


@pytest.fixture
def start(make_unit: MakeUnit, running: Keep, tmp_path: Path, port: int) -> Callable[..., App]:
    """Starts the program under launch; returns when it serves."""

    def begin(*, level: int = 1, bad: str = "", mode: str = "1") -> App:
        unit = make_unit(variables={"VLLM_SERVER_DEV_MODE": mode})
        code = bundle(tmp_path, {"sleeping_engine.py": ENGINE})
        words = ["--health", "/health", *(("--sleep", str(level)) if level else ())]
        args = ("python", "sleeping_engine.py", "--port", str(port), *(("--bad", bad) if bad else ()))
        return running(unit.start_on(port, code, fserve("", args=args), *words)).ready()

    return begin


def put_to_sleep(app: App) -> str:
    """flyted's signal; what the unit's status is then."""
    app.process.send_signal(signal.SIGUSR1)
    return app.unit.notice()


@pytest.mark.parametrize(
    ("level", "calls"),
    [
        (1, ["sleep 1", "wake"]),
        (2, ["sleep 2", "wake weights", "rpc reload_weights while ['kv_cache']", "wake kv_cache"]),
    ],
)
def test_the_next_request_wakes_it_and_is_answered(start: Callable[..., App], level: int, calls: list[str]) -> None:
    """Each level in the order that vLLM's documentation gives; the process is the same one."""
    app = start(level=level)
    before = app.json("/v1/models")
    assert put_to_sleep(app).startswith(f"STATUS=asleep, vLLM at level {level}")
    assert app.json("/v1/models") == {**before, "calls": calls}
    assert app.unit.notice().startswith("STATUS=awake again")
    assert app.json("/v1/models")["calls"] == calls  # and is not woken twice
    assert app.stop() == 0


def test_many_requests_at_once_wake_it_once(start: Callable[..., App]) -> None:
    """All of them wait in the socket, all are answered; and it can sleep again."""
    app = start()
    for round_ in range(1, 3):
        assert put_to_sleep(app).startswith("STATUS=asleep")
        with ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(lambda n: app.json(f"/v1/{n}"), range(60)))
        assert {a["path"] for a in answers} == {f"/v1/{n}" for n in range(60)}
        assert answers[0]["calls"] == ["sleep 1", "wake"] * round_
        assert app.unit.notice() == f"STATUS=awake again, after sleep {round_}"
    app.stop()


def test_it_stays_awake_while_something_is_in_flight(start: Callable[..., App]) -> None:
    """flyted counted none a moment ago; a connection that came meanwhile is not cut and not delayed."""
    app = start()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(app.unit.path))
        client.sendall(b"GET /v1/held HTTP/1.1\r\nHost: x\r\n")
        time.sleep(0.2)  # the proxy takes it
        assert put_to_sleep(app) == "STATUS=awake, busy at try 1 to sleep"
        client.sendall(b"\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    assert put_to_sleep(app).startswith("STATUS=asleep")
    app.stop()


def test_a_stop_while_it_sleeps_wakes_nothing(start: Callable[..., App]) -> None:
    """At once, and a request that comes then is the next start's."""
    app = start()
    assert put_to_sleep(app).startswith("STATUS=asleep")
    begun = time.monotonic()
    assert app.stop() == 0
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    ("bad", "mode", "said"),
    [
        ("no-sleep", "1", "vLLM did not go to sleep: POST /sleep?level=1 answers 500; it is stopped instead"),
        ("", "0", "vLLM did not go to sleep: POST /sleep?level=1 answers 404; it is stopped instead"),
    ],
)
def test_what_does_not_go_to_sleep_is_stopped(start: Callable[..., App], bad: str, mode: str, said: str) -> None:
    """An idle app gives its memory back, one way or the other; it has not failed."""
    app = start(bad=bad, mode=mode)
    assert put_to_sleep(app).startswith("STOPPING=1")
    assert app.wait() == 0
    assert said in app.err


@pytest.mark.parametrize("bad", ["no-wake", "deaf"])
def test_what_does_not_wake_is_started_anew(start: Callable[..., App], bad: str) -> None:
    """Also one that ignores SIGTERM, at once; who woke it waits in the socket, where systemd finds them."""
    app = start(bad=bad)
    assert put_to_sleep(app).startswith("STATUS=asleep")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(app.unit.path))
        client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert app.unit.notice().startswith("STOPPING=1")
        assert app.wait() == 0
        assert "vLLM did not wake up: POST /wake_up answers 500; it is restarted" in app.err
        app.unit.listener.settimeout(5)
        held, _ = app.unit.listener.accept()
        with held:
            assert held.recv(4096).startswith(b"GET /v1/models")


def test_a_program_that_dies_in_its_sleep_is_told(start: Callable[..., App]) -> None:
    """As awake, and nothing is said of processes in the background: launch's own is none."""
    app = start()
    pid = app.json("/v1/x")["pid"]
    assert put_to_sleep(app).startswith("STATUS=asleep")
    os.kill(pid, signal.SIGKILL)
    assert app.wait() == 137
    assert "terminated by signal SIGKILL" in app.err


def test_an_app_that_was_not_asked_to_sleep_so_ignores_the_signal(start: Callable[..., App]) -> None:
    """Anybody who may signal it could end it otherwise."""
    app = start(level=0)
    app.process.send_signal(signal.SIGUSR1)
    assert app.json("/v1/x")["calls"] == []
    app.stop()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "POST /sleep?level=1 is not answered in HTTP"),
        (b"SSH-2.0\r\n", "POST /sleep?level=1 is not answered in HTTP"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "POST /sleep?level=1 answers 401"),
        (b"HTTP/1.1 200 OK\r\n\r\nnot json", "/is_sleeping gives an unknown answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n[]", "/is_sleeping gives an unknown answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps({"is_sleeping": False}).encode(), "/is_sleeping does not confirm it"),
        (None, "POST /sleep?level=1: no answer in time"),
    ],
)
def test_strange_answers_end_in_a_reason(answer: bytes | None, why: str) -> None:
    """Whatever listens there, and however long it is silent."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    if answer is None:
                        over.wait(20)
                    else:
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(engine_sleep.Failed) as failed:
            engine_sleep.put_to_sleep(f"127.0.0.1:{server.getsockname()[1]}", 1, 1.0)
        over.set()
        server.shutdown(socket.SHUT_RDWR)
    thread.join(20)
    assert str(failed.value) == why
