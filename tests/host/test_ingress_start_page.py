"""The page that a browser gets while an app starts, with a real HAProxy: who gets it, when, and what it may say."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from flyted.plan.ingress import start_page
from flyted.plan.ingress.clients import ClientRules
from flyted.plan.ingress.state import IngressState, unavailable
from tests.attacks import http2
from tests.host.haproxy import A, B, Machine, apply, needs_haproxy, one, parsed, until
from tests.host.test_ingress_pools import pool
from tests.host.test_no_wake import ICON, traffic

pytestmark = [pytest.mark.slow, needs_haproxy]

STEP = "It is waiting for a GPU: place 2 of 3."
VISIT = {
    "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none",
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
}  # fmt: skip


def asleep(box: Machine, step: str = STEP, **more: Any) -> IngressState:
    """One app that is cold; with a step, it starts."""
    state = one(box)
    server = state.servers["a-r1-0"]
    return replace(state, cold={server.name: server.socket_path}, steps={A: step} if step else {}, **more)


def fields(changed: dict[str, str | None] | None = None) -> str:
    """The headers of a visit; ``None``: without one."""
    found = {**VISIT, **(changed or {})}
    return "".join(f"{name}: {value}\r\n" for name, value in found.items() if value is not None)


def visit(
    box: Machine, path: str = "/", host: str = A, changed: dict[str, str | None] | None = None
) -> tuple[int, str, str]:
    """(status, head, body) of one visit."""
    return box.get(path, host, fields(changed))


def is_page(answer: tuple[int, str, str]) -> bool:
    """Whether it is this page."""
    return answer[0] == 503 and "http-equiv=refresh" in answer[2]


def requests(app: Any) -> list[bytes]:
    """What the app has been sent."""
    return [seen for seen in app.seen if seen]


def test_a_visit_gets_the_page_after_a_second(box: Machine) -> None:
    """With what the start does; the app's socket had a connection, which starts it, and has not seen the request."""
    app = box.app("a-r1-0")
    apply(box, asleep(box, step=""))
    timer = threading.Timer(0.3, lambda: apply(box, asleep(box)))
    timer.start()
    began = time.monotonic()
    answer = visit(box, "/login?code=once")
    timer.join()
    assert time.monotonic() - began >= start_page.HOLD_MS / 1000
    assert is_page(answer)
    status, head, body = answer
    assert status == 503
    assert f"<h1>a is starting</h1><p role=status>{STEP}</p>" in body
    assert "content=0>" in body, "the ingress holds the next one back"
    assert "<script" not in body
    lines = ("cache-control: no-store", "x-content-type-options: nosniff", "referrer-policy: no-referrer",
             "content-type: text/html; charset=utf-8", f"retry-after: {start_page.AGAIN_S}")  # fmt: skip
    assert all(f"\r\n{line}\r\n" in f"{head.lower()}\r\n" for line in lines)
    assert "access-control" not in head.lower(), "no other page reads it"
    style = re.search("<style>(.*)</style>", body)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'; " in head
    until(lambda: app.connections == 1)
    assert requests(app) == []
    assert traffic(box).started == 0
    assert "code=once" not in box.log.read_text()
    assert "/login" not in box.log.read_text(), "it is no failure"


def test_a_visit_goes_on_as_soon_as_the_app_is_up(box: Machine) -> None:
    """Once, and whole; also where the app takes longer than a second for its answer."""
    app = box.app("a-r1-0")
    apply(box, asleep(box))
    timer = threading.Timer(0.3, lambda: apply(box, one(box)))
    timer.start()
    release = threading.Timer(2, app.release.set)
    release.start()
    began = time.monotonic()
    assert visit(box, "/hold?code=once")[::2] == (200, "a-r1-0\n")
    assert time.monotonic() - began > 1.9
    assert [seen.split(b"\r\n")[0] for seen in requests(app)] == [b"GET /hold?code=once HTTP/1.1"]


@pytest.mark.parametrize(
    "changed",
    [{name: None} for name in VISIT]
    + [{"Sec-Fetch-Mode": "cors"}, {"Sec-Fetch-Dest": "iframe"}, {"Sec-Fetch-Dest": "image"},
       {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Accept": "application/json"},
       {"Accept": "*/*"}, {"Sec-Purpose": "prefetch;prerender"}, {"Accept": "text/event-stream"}],
)  # fmt: skip
def test_what_is_no_visit_waits_for_the_app(box: Machine, changed: dict[str, str | None]) -> None:
    """Programs, requests of pages, frames, and visits that another site led here: at once, as ever."""
    app = box.app("a-r1-0")
    apply(box, asleep(box))
    began = time.monotonic()
    assert visit(box, changed=changed)[::2] == (200, "a-r1-0\n")
    assert time.monotonic() - began < start_page.HOLD_MS / 1000
    assert len(requests(app)) == app.connections == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS", "DELETE"])
def test_no_other_method_is_a_visit(box: Machine, method: str) -> None:
    """A form that is sent again would be sent twice."""
    app = box.app("a-r1-0")
    apply(box, asleep(box))
    raw = f"{method} / HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n{fields()}Content-Length: 0\r\n\r\n"
    assert parsed(box.send(raw.encode()))[0] == 200
    assert len(requests(app)) == 1


def test_a_websocket_is_no_visit(box: Machine) -> None:
    """Whatever it says of itself."""
    box.app("a-r1-0")
    apply(box, asleep(box))
    raw = (
        f"GET / HTTP/1.1\r\nHost: {A}\r\n{fields()}Connection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with box.connect() as connection:
        connection.sendall(raw.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 101 ")


def test_streams_and_later_requests_of_a_connection_get_it_too(box: Machine) -> None:
    """Browsers speak HTTP/2, and use their connections again; other streams are answered meanwhile."""
    box.app("a-r1-0")
    box.app("b-r1-0")
    state = asleep(box)
    other = box.server("b-r1-0")
    apply(box, replace(state, servers={**state.servers, "b-r1-0": other}, hosts={**state.hosts, B: "b-r1-0"}))
    raw = f"GET / HTTP/1.1\r\nHost: {A}\r\n{fields()}\r\n".encode()
    with box.connect() as connection:
        for _ in range(3):
            connection.sendall(raw)
            connection.settimeout(10)
            data = b""
            while b"</html>" not in data:
                data += connection.recv(65536)
            assert data.startswith(b"HTTP/1.1 503 ")
    said = [(name.lower().encode(), value.encode()) for name, value in VISIT.items()]
    with http2.connected(box) as connection:
        for number in (1, 3, 7):
            http2.sent(connection, number, [*http2.request(), *said])
        http2.sent(connection, 9, http2.request(host=B.encode()))
        found = http2.frames(connection, 3, set())
    payloads = {stream: payload for kind, stream, payload in found if kind == http2.DATA and payload}
    assert payloads[9] == b"b-r1-0\n"
    assert next(iter(payloads)) == 9, "it does not wait for the others"
    assert all(STEP.encode() in payloads[number] for number in (1, 3, 7))


def test_an_app_of_which_flyted_says_nothing_is_waited_for(box: Machine) -> None:
    """While flyted is down, or while the app's last run is being stopped: as for any other request."""
    app = box.app("a-r1-0")
    apply(box, asleep(box, step=""))
    assert visit(box)[::2] == (200, "a-r1-0\n")
    assert len(requests(app)) == 1


def test_an_app_that_is_up_and_slow_is_waited_for(box: Machine) -> None:
    """Nobody gets the page of an app that has come up, however long it thinks."""
    app = box.app("a-r1-0")
    apply(box, one(box))
    threading.Timer(1.5, app.release.set).start()
    assert visit(box, "/hold")[::2] == (200, "a-r1-0\n")


def test_the_page_of_an_app_that_nothing_listens_for_asks_again_later(box: Machine) -> None:
    """At its first start, or while its units are made anew; others are told in a line of text, as ever."""
    state = replace(one(box), steps={A: "It is starting for the first time."},
                    unavailable={A: unavailable("it is starting", 5)})  # fmt: skip
    apply(box, state)
    began = time.monotonic()
    answer = visit(box)
    assert is_page(answer)
    assert "It is starting for the first time." in answer[2]
    assert f"content={start_page.AGAIN_S}>" in answer[2]
    assert time.monotonic() - began < start_page.HOLD_MS / 1000
    assert box.get()[::2] == (503, "503: it is starting\n")
    apply(box, replace(state, steps={}))
    assert visit(box)[::2] == (503, "503: it is starting\n")


def test_a_pool_is_woken_by_the_socket_of_one_of_its_replicas(box: Machine) -> None:
    """The map has the pool's name."""
    app = box.app("a-r1-0")
    state = pool(box, "a-r1-0")
    name = state.hosts[A]
    apply(box, replace(state, cold={name: state.servers["a-r1-0"].socket_path}, steps={A: STEP}))
    assert is_page(visit(box))
    assert app.connections == 0, "one that starts is not started again"
    apply(box, replace(state, cold={name: state.servers["a-r1-0"].socket_path}))
    assert visit(box)[::2] == (200, "a-r1-0\n")
    assert (app.connections, len(requests(app))) == (2, 1)
    apply(box, replace(state, awake={name: "yes"}))
    assert visit(box)[::2] == (200, "a-r1-0\n")


def test_what_clients_ask_for_by_themselves_wakes_nothing(box: Machine) -> None:
    """Not even if a person does."""
    app = box.app("a-r1-0")
    apply(box, asleep(box))
    assert "is not awake" in visit(box, ICON)[2]
    assert app.connections == 0


def test_a_socket_that_is_gone_changes_nothing(box: Machine) -> None:
    """The visit is held, and gets the page: flyted says that it starts."""
    apply(box, asleep(box))
    assert is_page(visit(box))


def test_a_restarted_ingress_knows_it(box: Machine) -> None:
    """From its files, and flyted finds the same there."""
    box.app("a-r1-0")
    state = asleep(box)
    apply(box, state)
    box.stop()
    box.start()
    assert is_page(visit(box))
    box.ingress.forget()
    assert asyncio.run(box.ingress.read()).state.steps == {A: STEP}
    apply(box, one(box))
    live = asyncio.run(box.ingress.read()).state
    assert (live.cold, live.steps) == ({}, {})


@pytest.fixture
def without(box: Machine) -> Iterator[Machine]:
    """The same, with ``waiting_page = false``."""
    box.listen = replace(box.listen, clients=ClientRules(waiting_page=False))
    box.ingress.write(IngressState(), box.listen)
    box.stop()
    box.start()
    yield box


def test_an_operator_may_want_no_page(without: Machine) -> None:
    """Every visit waits then."""
    app = without.app("a-r1-0")
    apply(without, asleep(without))
    assert visit(without)[::2] == (200, "a-r1-0\n")
    assert app.connections == 1
