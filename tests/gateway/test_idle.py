"""The gateway ends by itself when nobody asks, and never while something goes on."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.answers.apps import ImageStatus
from flyted.gateway.__main__ import serve
from flyted.gateway.caller import Caller, enter
from flyted.gateway.daemon import Daemon
from flyted.gateway.parts import Parts, make
from tests.answers import whole
from tests.gateway.harness import TOKEN, FakeFlyted

pytestmark = pytest.mark.slow

IDLE_S = 0.4


def run(folder: Path, during: Any) -> float:
    """Serves until it ends; ``during(parts)`` runs beside it. How long it took."""
    listener = socket.create_server(("127.0.0.1", 0))
    flyted = FakeFlyted(folder / "api.sock")
    (folder / "state").mkdir()

    async def main() -> None:
        parts = make(folder / "state", Daemon(flyted.path))
        beside = asyncio.create_task(during(parts, listener.getsockname()[1], flyted))
        await asyncio.wait_for(serve(listener, parts, IDLE_S), 30)
        await beside

    began = time.monotonic()
    asyncio.run(main())
    flyted.close()
    return time.monotonic() - began


def test_nobody_asks(tmp_path: Path) -> None:
    """Then it ends."""

    async def nothing(parts: Parts, port: int, flyted: FakeFlyted) -> None:
        pass

    assert run(tmp_path, nothing) < 20


def test_who_asks_is_answered_and_holds_it_up(tmp_path: Path) -> None:
    """The time counts from the last answer."""
    answers: list[int] = []

    def ask(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/login", headers={"Host": "flyted.localhost"})
        answers.append(connection.getresponse().status)
        connection.close()

    async def visits(parts: Parts, port: int, flyted: FakeFlyted) -> None:
        for _ in range(4):
            await asyncio.to_thread(ask, port)
            await asyncio.sleep(IDLE_S / 2)

    assert run(tmp_path, visits) > IDLE_S * 2
    assert answers == [200] * 4


def test_a_build_that_goes_on_holds_it_up(tmp_path: Path) -> None:
    """Nobody is connected, and yet somebody will ask how it ended."""
    may_end = threading.Event()
    ended: list[str] = []

    async def build(parts: Parts, port: int, flyted: FakeFlyted) -> None:
        def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
            yield {"event": {"kind": "accepted", "text": ""}}
            assert may_end.wait(30)
            yield {"result": whole(ImageStatus)}

        flyted.scripts["image.build"] = script
        enter(Caller(uid=1000))
        run = await parts.jobs.build("p1", "development", "a:b", {}, {}, TOKEN, lambda built: "flyted.localhost/a:b")
        await asyncio.sleep(IDLE_S * 4)
        ended.append(run.phase)
        may_end.set()

    assert run(tmp_path, build) > IDLE_S * 4
    assert ended == ["running"]


def test_only_systemd_starts_it() -> None:
    """Without a socket, or with more than one, it says how it is started."""
    for words in ("", "LISTEN_PID=1 LISTEN_FDS=1", "LISTEN_PID=$$ LISTEN_FDS=2"):
        start = f'exec env {words} "$@" 3</dev/null 4</dev/null'
        command = ["sh", "-c", start, "sh", sys.executable, "-m", "flyted.gateway"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert (done.returncode, "systemd starts it" in done.stderr) == (2, True), words


def test_a_gateway_that_cannot_keep_its_files_says_why(tmp_path: Path) -> None:
    """In one line, at the level of an error, with an exit status that systemd takes for a failure: no traceback."""
    (tmp_path / "state").write_text("a file where a folder should be")
    start = 'exec env LISTEN_FDS=1 LISTEN_PID=$$ "$@" 3<&0'
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = subprocess.run(
            ["sh", "-c", start, "sh", sys.executable, "-m", "flyted.gateway"], stdin=listener.fileno(),
            env={**os.environ, "STATE_DIRECTORY": str(tmp_path / "state")}, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith(f"<3>flyted-gateway cannot store its files in {tmp_path}/state: Not a directory;")
