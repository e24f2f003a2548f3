"""A real HAProxy tells of load: it compares what a pool has with what it is told, and connects to flyted's socket."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from flyted.contract.errors import HostFailure
from flyted.host.load import Load
from flyted.plan.ingress.pools import TOLD
from tests.host.haproxy import A, Machine, apply, exchange, needs_haproxy, parsed
from tests.host.test_ingress_pools import pool

pytestmark = [pytest.mark.slow, needs_haproxy]
SERVER = "a-r1-0"


def watched(box: Machine, **load: int) -> None:
    """The pool of the app, and the load from which on flyted wants to hear of it."""
    named = {f"pool-7{'/rate' if kind == 'rate' else ''}": number for kind, number in load.items()}
    apply(box, replace(pool(box, SERVER), watched=named))


class Heard:
    """How often flyted's socket was connected to."""

    def __init__(self, box: Machine) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(box.files / TOLD))
        self._socket.listen(100)
        self._socket.settimeout(0.5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def count(self) -> int:
        """Since the last call."""
        found = 0
        while True:
            try:
                self._socket.accept()[0].close()
            except TimeoutError:
                return found
            found += 1


def held(box: Machine, count: int) -> list[socket.socket]:
    """So many requests that are not answered yet."""
    found: list[socket.socket] = []
    for _ in range(count):
        connection = box.connect()
        connection.sendall(f"GET /hold HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n\r\n".encode())
        found.append(connection)
    return found


def answered(connections: list[socket.socket]) -> list[int]:
    """What became of them."""
    found = []
    for each in connections:
        with each:
            found.append(parsed(exchange(each, b""))[0])
    return found


def test_the_request_that_is_one_too_many_is_told(box: Machine) -> None:
    """Those at once, whatever they do; nothing before, nothing of what is not watched."""
    app = box.app(SERVER)
    with Heard(box) as heard:
        watched(box, at_once=3)
        first = held(box, 2)
        counts = [heard.count()]
        first += held(box, 1)
        counts.append(heard.count())
        watched(box)
        first += held(box, 2)
        counts.append(heard.count())
    app.release.set()
    assert answered(first) == [200] * 5
    assert counts == [0, 1, 0]


def test_a_rate_is_told(box: Machine) -> None:
    """The requests of a second, each of which may be short."""
    box.app(SERVER)
    with Heard(box) as heard:
        watched(box, rate=8)
        for _ in range(5):
            assert box.get()[0] == 200
        assert heard.count() == 0
        began = time.monotonic()
        while heard.count() == 0:
            assert time.monotonic() - began < 30
            for _ in range(20):
                assert box.get()[0] == 200


@pytest.mark.parametrize("what", ["nothing", "gone", "full"])
def test_a_flyted_that_is_away_holds_nobody_up(box: Machine, what: str) -> None:
    """Its socket is not there, nobody listens at it, or nobody accepts."""
    box.app(SERVER)
    listener = socket.socket(socket.AF_UNIX)
    if what != "nothing":
        listener.bind(str(box.files / TOLD))
    if what == "full":
        listener.listen(0)
    watched(box, at_once=1)
    began = time.monotonic()
    for _ in range(5):
        assert box.get()[0] == 200
    assert time.monotonic() - began < 10
    listener.close()


def test_what_is_watched_is_read_back_and_survives_a_restart(box: Machine) -> None:
    """It is in a map as all else."""
    box.app(SERVER)
    watched(box, at_once=2, rate=5)
    box.stop()
    box.start()
    assert dict(asyncio.run(box.ingress.read()).state.watched) == {"pool-7": 2, "pool-7/rate": 5}
    watched(box, at_once=1)
    assert dict(asyncio.run(box.ingress.read()).state.watched) == {"pool-7": 1}
    with Heard(box) as heard:
        box.get()
        assert heard.count() == 1


def test_flyteds_socket_hears_what_comes_together_once(tmp_path: Path) -> None:
    """One that an earlier flyted left makes way; a folder that is missing is said."""
    path = tmp_path / TOLD
    Load(path).close()
    calls: list[int] = []

    async def hear() -> None:
        load = Load(path)
        load.start(lambda: calls.append(1))
        for _ in range(5):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
        await asyncio.sleep(0.05)
        assert calls == [1]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            await asyncio.sleep(0.05)
            assert client.recv(1) == b""
        assert calls == [1, 1]
        load.close()

    asyncio.run(hear())
    assert path.stat().st_mode & 0o777 == 0o660
    with pytest.raises(HostFailure, match="No such file"):
        Load(tmp_path / "missing" / TOLD)
