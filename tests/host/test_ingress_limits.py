"""What is too large, too slow or no HTTP is answered in our words, and what they say is true. With a real HAProxy."""

from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

import pytest

from flyted.plan.ingress.config import BUFFER, HARD_FIELDS, VANISHED_S
from flyted.plan.ingress.request import MOST_BYTES, MOST_FIELDS
from tests.attacks import http2
from tests.host.haproxy import A, Machine, apply, exchange, needs_haproxy, one, parsed, until

pytestmark = [pytest.mark.slow, needs_haproxy]

PIDFD_GETFD = 438  # on all architectures (asm-generic/unistd.h)
WORDS = f"431: the headers of this request are too large: {MOST_BYTES} bytes and {MOST_FIELDS} fields are the limit\n"


def by_http2(box: Machine, *more: tuple[bytes, bytes]) -> bytes:
    """The body of the answer."""
    with http2.connected(box) as connection:
        http2.sent(connection, 1, [*http2.request(), *more])
        found = http2.frames(connection, 5, {(http2.DATA, 1), (http2.RST_STREAM, 1), (http2.GOAWAY, 0)})
    return b"".join(payload for kind, _, payload in found if kind == http2.DATA)


def test_large_headers_of_a_request_reach_the_app(box):
    """A cookie of 40 KB, and two hundred fields: what uvicorn and Envoy take."""
    app = box.app("a-r1-0")
    apply(box, one(box))
    cookie, many = "a=" + "x" * 40_000, {f"x-{i}": "1" for i in range(200)}
    assert box.get(headers=f"Cookie: {cookie}\r\n")[0] == 200
    assert box.get(headers="".join(f"{n}: {v}\r\n" for n, v in many.items()))[0] == 200
    assert f"cookie: {cookie}\r\n".encode() in app.seen[0]
    assert app.seen[1].count(b"\r\nx-") >= 200


@pytest.mark.parametrize(
    "more",
    [
        {"cookie": "a=" + "x" * MOST_BYTES},
        {"cookie": "a=" + "x" * (BUFFER - 3000)},
        {f"x-{i}": "1" for i in range(MOST_FIELDS + 1)},
        {f"x-{i}": "1" for i in range(HARD_FIELDS - 50)},
    ],
    ids=["bytes", "many bytes", "fields", "many fields"],
)
def test_larger_ones_are_answered_with_431(box, more):
    """With the limits, by HTTP/1; and by HTTP/2 where HAProxy would break the connection off."""
    app = box.app("a-r1-0")
    apply(box, one(box))
    status, head, body = box.get(headers="".join(f"{n}: {v}\r\n" for n, v in more.items()))
    assert (status, body) == (431, WORDS)
    assert "text/plain" in head
    if len(more) > 1:  # our HTTP/2 by hand puts all headers into one frame
        assert by_http2(box, *((n.encode(), v.encode()) for n, v in more.items())) == WORDS.encode()
    assert app.seen == []


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


def test_large_headers_of_an_answer_reach_the_client(box):
    """Forty kilobytes, and more than a hundred fields."""
    app = box.app("a-r1-0")
    apply(box, one(box))
    app.answers = {
        b"/large": OK + b"X: " + b"x" * 40_000 + b"\r\n\r\nok",
        b"/many": OK + b"".join(b"Set-Cookie: c%d=1\r\n" % i for i in range(300)) + b"\r\nok",
    }
    assert box.get("/large")[::2] == (200, "ok")
    status, head, _ = box.get("/many")
    assert (status, head.lower().count("set-cookie: ")) == (200, 300)


def test_a_client_that_stops_sending_is_not_told_that_its_http_is_wrong(box):
    """408, though HAProxy itself has 400 for that and for a wrong body. (2.6 closes the connection without a word.)"""
    app = box.app("a-r1-0")
    apply(box, one(box))
    box.reconfigured(("timeout client 60s", "timeout client 500ms"))
    with box.connect() as connection:
        said = exchange(connection, f"POST /hold HTTP/1.1\r\nHost: {A}\r\nContent-Length: 9\r\n\r\nhalf".encode(), 2)
    app.release.set()
    assert said == b"" or parsed(said)[::2] == (408, "this request was incomplete, too slow or not valid HTTP\n")


def test_the_log_names_the_host_once(box):
    """By HTTP/2 the address is an absolute one to HAProxy."""
    apply(box, one(box))
    by_http2(box)
    until(lambda: f" {A}/ 503 " in box.log.read_text())


def accepted(box: Machine, client: tuple[str, int]) -> socket.socket:
    """HAProxy's own end of a connection, by pidfd_getfd(2)."""
    assert box.process is not None
    held = os.pidfd_open(box.process.pid)
    try:
        for path in Path(f"/proc/{box.process.pid}/fd").iterdir():
            taken = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, held, int(path.name), 0)
            assert taken >= 0, os.strerror(ctypes.get_errno())
            try:
                found = socket.socket(fileno=taken)
            except OSError:  # no socket
                os.close(taken)
                continue
            try:
                if found.getpeername() == client:
                    return found
            except OSError:  # it listens
                pass
            found.close()
    finally:
        os.close(held)
    raise AssertionError(f"HAProxy has no connection of {client}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take another process's descriptor")
def test_a_client_that_vanished_is_noticed(box):
    """The kernel asks one that is silent, and gives it up after two minutes; machine/test_clients.py waits for it."""
    box.app("a-r1-0")
    apply(box, one(box))
    with box.connect() as connection, accepted(box, connection.getsockname()) as served:
        assert served.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == VANISHED_S * 1000
