"""The line of an app has a limit, with a real HAProxy: who comes then is told at once, and other apps go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flyted.plan.ingress.clients import ClientRules
from flyted.plan.ingress.state import IngressState
from flyted.plan.ingress.waiting import RETRY_S
from tests.attacks import http2
from tests.host.haproxy import A, B, Machine, apply, exchange, machine, needs_haproxy, parsed, until

pytestmark = [pytest.mark.slow, needs_haproxy]

LINE = 2
BODY = 1 << 20


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Machine]:
    """An ingress in which two requests may wait for an app."""
    with machine(tmp_path, clients=ClientRules(waiting=LINE, requests_per_s=0)) as made:
        yield made


def state(box: Machine, pool: str, *names: str) -> IngressState:
    """An app whose replicas take one request at a time each, and another app."""
    servers = {name: replace(box.server(name, 1), pool=pool) for name in names}
    other = box.server("b-r1-0", 1)
    return IngressState(servers={**servers, other.name: other}, hosts={A: pool or names[0], B: other.name})


def asked(box: Machine, held: contextlib.ExitStack, method: str = "GET", body: int = 0) -> socket.socket:
    """A client of the first app that waits; of its body as much is sent as is taken."""
    connection = held.enter_context(box.connect())
    head = f"{method} /hold HTTP/1.1\r\nHost: {A}\r\nContent-Length: {body}\r\nConnection: close\r\n\r\n"
    connection.sendall(head.encode())
    connection.settimeout(1)
    with contextlib.suppress(TimeoutError):
        connection.sendall(b"x" * body)
    return connection


def waiting(box: Machine, pool: str) -> int:
    """The requests in HAProxy's line for the first app."""
    rows = asyncio.run(box.ingress.stats())
    own = sum(each.queued for name, each in rows.items() if name.startswith("a-"))
    return own + queued_in(box, pool) if pool else own


def queued_in(box: Machine, pool: str) -> int:
    """Those that no replica has yet: the pool's own line."""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(box.admin))
        header, row = exchange(admin, f"show stat {pool} 2 -1\n".encode()).decode().split("\n")[:2]
    return int(dict(zip(header.removeprefix("# ").split(","), row.split(","), strict=True))["qcur"])


@pytest.mark.parametrize(("pool", "names"), [("", ("a-r1-0",)), ("pool-7", ("a-r1-0", "a-r1-1"))])
def test_a_full_line_answers_at_once(box: Machine, pool: str, names: tuple[str, ...]) -> None:
    """Nobody who waits is turned away, and the line is open again when they have their answers."""
    apps = [box.app(name) for name in (*names, "b-r1-0")]
    apply(box, state(box, pool, *names))
    with contextlib.ExitStack() as held:
        taken = [asked(box, held) for _ in names]
        until(lambda: all(app.seen for app in apps[:-1]))
        taken += [asked(box, held) for _ in range(LINE)]
        until(lambda: waiting(box, pool) == LINE)
        status, head, body = box.get()
        assert (status, body) == (503, '503: too many requests wait for "a"\n')
        assert f"\r\nretry-after: {RETRY_S}\r\n" in head.lower()
        status, head, body = box.get(headers="Accept: application/json\r\n")
        assert (status, json.loads(body)) == (503, {"error": 'too many requests wait for "a"'})
        assert box.get(host=B)[::2] == (200, "b-r1-0\n")
        for app in apps:
            app.release.set()
        assert [parsed(exchange(each, b""))[0] for each in taken] == [200] * len(taken)
    assert box.get()[0] == 200
    assert sum(len(app.seen) for app in apps[:-1]) == len(taken) + 1


def test_one_client_fills_only_one_line(box: Machine) -> None:
    """With a hundred streams of one connection: the other app answers, and so does the first one when it is gone."""
    app = box.app("a-r1-0")
    box.app("b-r1-0")
    apply(box, state(box, "", "a-r1-0"))
    with http2.connected(box) as connection:
        for number in range(1, 200, 2):
            http2.sent(connection, number, http2.request(path=b"/hold"))
        until(lambda: waiting(box, "") == LINE)
        assert box.get()[0] == 503
        assert box.get(host=B)[0] == 200
    until(lambda: waiting(box, "") == 0)
    app.release.set()
    assert box.get()[0] == 200
    assert len(app.seen) <= LINE + 2


def test_a_body_that_waits_takes_a_buffer(box: Machine) -> None:
    """The rest of it stays with its client: a limit of the number is one of the bytes."""
    app = box.app("a-r1-0")
    apply(box, state(box, "", "a-r1-0"))
    with contextlib.ExitStack() as held:
        asked(box, held)
        until(lambda: app.seen)
        before = resident(box)
        for _ in range(LINE):
            asked(box, held, "POST", BODY)
        until(lambda: waiting(box, "") == LINE)
        assert resident(box) - before < LINE * BODY // 2
        app.release.set()


def resident(box: Machine) -> int:
    """The bytes of memory of HAProxy."""
    assert box.process is not None
    status = Path(f"/proc/{box.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024
