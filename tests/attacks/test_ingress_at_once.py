"""No client has more requests at once than it may have connections, however few it needs for them. A real HAProxy.

Each request takes a connection to an app. Of these, HAProxy has as many as of clients: without a limit, some hundred
connections with a hundred streams each closed the ingress to everybody.
"""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flyted.plan.ingress.clients import CONNECTIONS, ClientRules
from flyted.plan.ingress.config import PER_ADDRESS
from flyted.plan.ingress.internal import AT_ONCE
from tests.attacks import http2
from tests.attacks.guard import sent as guard
from tests.host.haproxy import A, Machine, apply, machine, needs_haproxy, one, until

pytestmark = [pytest.mark.slow, needs_haproxy]

MOST = 3
CLIENT, NEIGHBOUR, STRANGER = b"2001:db8:1:2::7", b"2001:db8:1:2:ffff::1", b"2001:db8:1:3::7"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Machine]:
    """An ingress behind a proxy at 127.0.0.1, whose clients may have three requests at once."""
    rules = ClientRules(trusted_proxies=("127.0.0.1",), requests_per_s=0, connections=MOST)
    with machine(tmp_path, clients=rules) as made:
        yield made


def ask(connection: ssl.SSLSocket, stream: int, *fields: tuple[bytes, bytes], path: bytes = b"/hold") -> None:
    http2.sent(connection, stream, [*http2.request(path=path), *fields])


def said(connection: ssl.SSLSocket, stream: int, seconds: float = 5) -> bytes:
    """The body of an answer."""
    found = http2.frames(connection, seconds, {(http2.DATA, stream)})
    return b"".join(data for kind, number, data in found if (kind, number) == (http2.DATA, stream))


def by(address: bytes) -> tuple[bytes, bytes]:
    return (b"x-forwarded-for", address)


def test_a_client_has_as_many_requests_at_once_as_connections(box: Machine) -> None:
    """Over several connections, from all of its network; others go on, and so does it when it has its answers."""
    app = box.app("a-r1-0")
    apply(box, one(box))
    refusal = b"429: too many requests at once: %d of one client are allowed\n" % MOST
    with http2.connected(box) as first, http2.connected(box) as second:
        for stream in (1, 3, 5):
            ask(first, stream, by(CLIENT))
        until(lambda: len(app.seen) == MOST)
        ask(first, 7, by(CLIENT))
        assert said(first, 7) == refusal
        ask(second, 1, by(NEIGHBOUR))
        assert said(second, 1) == refusal
        ask(second, 3, by(STRANGER), path=b"/")
        assert said(second, 3) == b"a-r1-0\n"
        app.release.set()
        assert said(first, 5) == b"a-r1-0\n"
        numbers = itertools.count(5, 2)

        def answered() -> bool:
            ask(second, stream := next(numbers), by(CLIENT), path=b"/")
            return said(second, stream) == b"a-r1-0\n"

        until(answered)


def test_an_address_of_this_machine_has_half_of_the_places(box: Machine) -> None:
    """Its streams are limited like its connections, whatever the setting says: all users here are one client."""
    box.listen = replace(box.listen, clients=ClientRules(requests_per_s=0, connections=0))
    box.ingress.write(one(box), box.listen)
    app = box.app("a-r1-0")
    limit = f"sc2_conn_cur(at_once) gt {PER_ADDRESS} "
    box.reconfigured((limit, "sc2_conn_cur(at_once) gt 2 "))
    with http2.connected(box) as connection:
        for stream in (1, 3):
            ask(connection, stream)
        until(lambda: len(app.seen) == 2)
        ask(connection, 5)
        assert said(connection, 5).startswith(b"429: too many requests at once")
        app.release.set()
    assert CONNECTIONS < PER_ADDRESS


def test_who_has_a_token_is_counted_by_it(box: Machine) -> None:
    """A valid token takes the place of the counter; an invalid one does not."""
    state = guard.state(box)
    apply(box, state)
    guard.tell(box, guard.token_table())
    app = box.app("a-r1-0")
    valid = (b"authorization", b"Bearer " + guard.GOOD.encode())
    with http2.connected(box) as connection:
        for stream in range(1, 2 * MOST + 4, 2):
            ask(connection, stream, by(CLIENT), valid)
        until(lambda: len(app.seen) == MOST + 2)
        app.release.set()


def test_a_caller_has_as_many_calls_at_once_as_connections(box: Machine) -> None:
    """An app that calls another one may speak HTTP/2, too."""
    source = "127.0.0.11"
    app = box.app("a-r1-0")
    apply(box, replace(one(box), callers={source: "ui"}, calls={f"{source}/a": A}))
    box.reconfigured((f"sc1_conn_cur(at_once) gt {AT_ONCE} ", "sc1_conn_cur(at_once) gt 2 "))
    with socket.create_connection(("127.0.0.1", box.calls), 10, source_address=(source, 0)) as connection:
        connection.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0))
        for stream in (1, 3, 5):
            fields = http2.request(path=b"/hold", host=b"a.apps.internal")
            flags = http2.END_HEADERS | http2.END_STREAM
            connection.sendall(http2.frame(http2.HEADERS, flags, stream, http2.packed(fields)))
            until(lambda wanted=stream: len(app.seen) >= min(2, wanted // 2 + 1))  # type: ignore[misc]
        found = http2.frames(connection, 5, {(http2.DATA, 5)})  # type: ignore[arg-type]
        assert any(b"429: too many requests at once: " in data for _, stream, data in found if stream == 5)
        app.release.set()
    assert len(app.seen) == 2
