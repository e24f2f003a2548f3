"""Kept connections with a real HAProxy: which requests go over them, who closes them, and what a crash does."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from flyted.plan.ingress.state import IngressState
from tests.host.haproxy import A, App, Machine, apply, exchange, needs_haproxy, one, parsed, until

pytestmark = [pytest.mark.slow, needs_haproxy]


class Keeping(App):
    """A server on a Unix socket that closes no connection by itself; ``served``: connection, method and path of each.

    ``/die`` ends all of its connections without an answer, as a crash does, and ``/wait`` answers when it is released.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.served: list[tuple[int, str, str]] = []
        self.open: dict[int, socket.socket] = {}
        self.deaths = 0
        super().__init__(path, name)

    def _answer(self, number: int, connection: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError), connection:
            while True:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                method, path, *_ = head.decode().split(" ")
                length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                while length is not None and len(data) < int(length[1]):
                    data += connection.recv(65536)
                data = data[int(length[1]) if length is not None else 0 :]
                self.served.append((number, method, path))
                if path == "/die" and self.deaths:
                    self.deaths -= 1
                    self.die()
                    return
                if path == "/wait":
                    self.release.wait(20)
                if path.startswith("/work"):
                    time.sleep(0.01)
                body = b"" if method == "HEAD" else f"{self.name}\n".encode()
                close = b"Connection: close\r\n" if b"\r\nconnection: close" in head.lower() else b""
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (close, len(self.name) + 1, body)
                )
                if close:
                    return

    def _serve(self, number: int, connection: socket.socket) -> None:
        self.open[number] = connection
        self._answer(number, connection)
        del self.open[number]

    def die(self) -> None:
        """End all connections at once."""
        for connection in list(self.open.values()):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def ways(self) -> list[int]:
        """The connections by which the requests came, in their order."""
        return [number for number, _method, _path in self.served]


def keeping(state: IngressState) -> IngressState:
    """The same with all apps awake: connections are kept to all that get requests."""
    return replace(state, servers={n: replace(s, kept=not s.rests) for n, s in state.servers.items()})


def app(box: Machine, name: str = "a-r1-0") -> Keeping:
    """A server that keeps its connections open."""
    made = Keeping(box.folder / f"{name}.sock", name)
    box._apps.append(made)  # closed with the others
    return made


def asked(box: Machine, request: str) -> tuple[int, str, str]:
    """One request on a connection of its own, in this wording."""
    with box.connect() as connection:
        return parsed(exchange(connection, request.encode()))


def ask(box: Machine, method: str, path: str = "/", headers: str = "", body: str = "") -> int:
    """One request on a connection of its own; its status."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return asked(box, f"{method} {path} HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n{headers}{length}\r\n{body}")[0]


def end_kept(box: Machine, name: str = "a-r1-0") -> None:
    """What the daemon does before it stops an app."""
    asyncio.run(box.ingress.end_kept(name))


def test_what_may_be_sent_twice_goes_over_kept_connections(box):
    """GET, HEAD and OPTIONS of different clients share one; each other request has its own."""
    server = app(box)
    apply(box, keeping(one(box)))
    for method in ("GET", "HEAD", "OPTIONS", "GET"):
        assert ask(box, method) == 200
    assert ask(box, "GET", headers="Content-Length: 0\r\n") == 200
    assert server.ways() == [1, 1, 1, 1, 1]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert ask(box, method, body="x") == 200
    assert ask(box, "POST") == 200
    assert ask(box, "GET", body="x") == 200, "with a body it cannot be sent again in any case"
    assert ask(box, "GET", headers="Accept: text/event-stream\r\n") == 200, "a stream"
    assert server.ways()[5:] == [2, 3, 4, 5, 6, 7, 8]
    assert ask(box, "GET") == 200
    assert server.ways()[-1] in (1, 9), "9: the second of idleness is over"
    until(lambda: not server.open)


def test_a_websocket_has_a_connection_of_its_own(box):
    """It would take a kept one for hours."""
    server = app(box)
    apply(box, keeping(one(box)))
    assert ask(box, "GET") == 200
    upgrade = "Upgrade: websocket\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n"
    with box.connect() as connection:
        connection.sendall(f"GET /ws HTTP/1.1\r\nHost: {A}\r\nConnection: Upgrade\r\n{upgrade}\r\n".encode())
        until(lambda: len(server.served) == 2)
    assert server.ways() == [1, 2]


def test_an_app_that_sleeps_is_asked_on_connections_of_their_own(box):
    """Before it has woken, and from the moment that it is to sleep: idle ones are ended before it is stopped."""
    server = app(box)
    apply(box, one(box))
    assert [ask(box, "GET"), ask(box, "GET")] == [200, 200]
    assert server.ways() == [1, 2]
    for _ in range(2):
        apply(box, keeping(one(box)))
        server.served.clear()
        assert [ask(box, "GET"), ask(box, "GET")] == [200, 200]
        assert len(set(server.ways())) == 1
        assert len(server.open) == 1
        apply(box, one(box))
        end_kept(box)
        until(lambda: not server.open, 0.5)
        server.served.clear()
        assert [ask(box, "GET"), ask(box, "GET")] == [200, 200]
        assert len(set(server.ways())) == 2
    assert asyncio.run(box.ingress.stats(["a-r1-0"]))["a-r1-0"].started == 10


def test_work_that_began_meanwhile_is_not_undone_by_an_older_plan(box):
    """A pass looked before the app was to sleep, and is carried out after: its app stays out of the map."""
    server = app(box)
    awake = keeping(one(box))
    apply(box, awake)
    assert ask(box, "GET") == 200
    end_kept(box)
    until(lambda: not server.open, 0.5)
    asyncio.run(box.ingress.apply(awake, box.listen, {"a-r1-0"}))
    server.served.clear()
    assert [ask(box, "GET"), ask(box, "GET")] == [200, 200]
    assert len(set(server.ways())) == 2
    apply(box, awake)
    server.served.clear()
    assert [ask(box, "GET"), ask(box, "GET")] == [200, 200]
    assert len(set(server.ways())) == 1


def test_requests_that_run_are_finished_before_their_connection_is_closed(box):
    """A short one is waited for; one that takes longer than that is answered nevertheless."""
    server = app(box)
    apply(box, keeping(one(box)))
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(ask(box, "GET", "/wait")))
    waiting.start()
    until(lambda: server.served)
    began = time.monotonic()
    end_kept(box)
    assert 0.9 < time.monotonic() - began < 3
    server.release.set()
    waiting.join()
    assert answers == [200]
    until(lambda: not server.open)


def test_haproxy_closes_first(box):
    """Within a second and a half at most, however many there were: an app's limit must be longer."""
    server = app(box)
    apply(box, keeping(one(box)))
    visitors = [threading.Thread(target=ask, args=(box, "GET", "/wait")) for _ in range(200)]
    for visitor in visitors:
        visitor.start()
    until(lambda: len(server.served) == 200)
    server.release.set()
    for visitor in visitors:
        visitor.join()
    began = time.monotonic()
    until(lambda: not server.open)
    assert time.monotonic() - began < 5, "not an assertion about time: the shortest usual limit of servers"


def test_a_crash_is_told_apart(box):
    """What may be sent twice is, once, and no POST is: it has a connection of its own, as ever."""
    server = app(box)
    apply(box, keeping(one(box)))
    assert ask(box, "GET") == 200
    server.deaths = 1
    assert ask(box, "GET", "/die") == 200
    assert [each for each in server.served if each[2] == "/die"] == [(1, "GET", "/die"), (2, "GET", "/die")]
    server.served.clear()
    server.deaths = 1
    assert ask(box, "POST", "/die", body="x") == 502
    assert [each[1:] for each in server.served] == [("POST", "/die")]
    server.served.clear()
    server.deaths = 5
    assert ask(box, "GET", "/die") in (0, 502)
    assert len(server.served) == 2, "a request that kills its app does it no more than twice"


def test_a_restarted_haproxy_keeps_nothing_until_it_is_told(box):
    """Its files do not know who is awake; the next pass does."""
    server = app(box)
    awake = keeping(one(box))
    apply(box, awake)
    box.stop()
    box.start()
    assert [ask(box, "GET"), ask(box, "GET")] == [200, 200]
    assert server.ways() == [1, 2]
    end_kept(box)
    box.ingress.forget()
    end_kept(box)
    apply(box, awake)
    server.served.clear()
    assert [ask(box, "GET"), ask(box, "GET")] == [200, 200]
    assert len(set(server.ways())) == 1


def test_sleeps_and_changes_under_load_lose_no_request(box):
    """Apps wake, are cooled, follow each other and go, sixty times, under GET and POST: every answer is a 200."""
    names = ("a-r1-0", "a-r2-0")
    servers = [app(box, name) for name in names]
    apply(box, keeping(one(box)))
    answers: dict[str, tuple[str, int]] = {}
    numbers = itertools.count()
    stop = threading.Event()

    def visit(method: str) -> None:
        while not stop.is_set():
            path = f"/work/{next(numbers)}"
            answers[path] = method, ask(box, method, path, body="x" if method == "POST" else "")

    visitors = [threading.Thread(target=visit, args=(method,)) for method in ("GET", "POST") * 3]
    for visitor in visitors:
        visitor.start()
    for turn in range(60):
        name = names[turn // 2 % 2]
        apply(box, keeping(one(box, name)))
        time.sleep(0.02)
        if turn % 2:
            end_kept(box, name)
            apply(box, one(box, name))
    stop.set()
    for visitor in visitors:
        visitor.join()
    assert {status for _method, status in answers.values()} == {200}, answers
    assert len(answers) > 100
    seen = Counter(path for server in servers for _number, _method, path in server.served)
    assert seen == dict.fromkeys(answers, 1), "each came once"
    gets = [(server.name, number) for server in servers for number, method, _ in server.served if method == "GET"]
    assert len(set(gets)) < len(gets), "some shared a connection"
