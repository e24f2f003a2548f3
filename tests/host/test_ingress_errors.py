"""What the ingress finds wrong itself is answered in our words, and they are true. With a real HAProxy."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flyted.contract.names import GATEWAY_HOST
from flyted.plan.ingress.config import BUFFER, HARD_FIELDS
from tests.attacks import http2
from tests.host.haproxy import A, Machine, apply, is_old, needs_haproxy, one, parsed

pytestmark = [pytest.mark.slow, needs_haproxy]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
BROKE_OFF, INVALID = (
    "closed the connection before it answered",
    "gave an answer that is not valid HTTP or has headers that are too large",
)
NO_H2 = ", or does not speak HTTP/2 on a port named h2c"
SEE = "its operator can see why: flytectl app get a"


def said(why: str, also: str = "") -> str:
    """The 502; HAProxy 2.6 cannot tell who ended it."""
    return f'502: "a" {f"{BROKE_OFF}, or {INVALID}" if is_old() else why}{also}; {SEE}\n'


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (OK + b"X: " + b"x" * BUFFER + b"\r\n\r\nok", INVALID),
        (OK + b"".join(b"Set-Cookie: c%d=1\r\n" % i for i in range(HARD_FIELDS + 1)) + b"\r\nok", INVALID),
        (b"no HTTP at all\r\n\r\n", INVALID),
        (OK + b"Content-Length: 3\r\n\r\nok", INVALID),
        (b"", BROKE_OFF),
    ],
    ids=["too large", "too many", "no HTTP", "two lengths", "nothing"],
)
def test_a_502_says_whether_the_app_broke_off_or_said_what_is_no_http(box: Machine, answer: bytes, why: str) -> None:
    """To clients of both protocols."""
    app = box.app("a-r1-0")
    apply(box, one(box))
    app.answers = {b"/": answer}
    assert box.get()[::2] == (502, said(why))
    if not (is_old() and why == BROKE_OFF):  # 2.6 resets the stream: the request may be sent again
        assert by_http2(box) == said(why).encode()


def by_http2(box: Machine) -> bytes:
    """The body of the answer."""
    with http2.connected(box) as connection:
        http2.sent(connection, 1, http2.request())
        found = http2.frames(connection, 5, {(http2.DATA, 1), (http2.RST_STREAM, 1), (http2.GOAWAY, 0)})
    return b"".join(payload for kind, _, payload in found if kind == http2.DATA)


@contextlib.contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """A server that answers whatever comes first with the same bytes, and ends."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        3 * b"\x15\x03\x03\x00\x02\x02\x46",  # of less than a frame's head 2.6 waits for the rest
        http2.frame(http2.SETTINGS, 0, 0),
        http2.frame(http2.SETTINGS, 0, 0) + http2.frame(http2.GOAWAY, 0, 0, bytes(8)),
        b"",
    ],
    ids=["HTTP/1.1", "TLS", "the beginning", "a farewell", "nothing"],
)
def test_of_a_port_named_h2c_it_says_what_may_be_wrong_there(box: Machine, answer: bytes) -> None:
    """HAProxy does not tell a server of HTTP/1.1, which refuses the preface, from one that broke off."""
    with answering(box.folder / "a-r1-0.sock", answer):
        apply(box, replace(one(box), servers={"a-r1-0": replace(box.server("a-r1-0"), h2=True)}))
        assert box.get()[::2] == (502, said(BROKE_OFF, NO_H2))


def test_of_the_gateway_it_says_where_its_operator_looks(box: Machine) -> None:
    """It is no app: there is none of its name to ask flytectl for."""
    see = "its operator can see why: journalctl -u flyted-gateway\n"
    apply(box, one(box))
    status, head, body = box.get(host=GATEWAY_HOST)
    assert (status, body) == (503, f"503: flyted's gateway cannot serve now; {see}")
    assert "retry-after: 5" in head
    gateway = box.gateway()
    gateway.answers = {b"/": b""}
    assert box.get(host=GATEWAY_HOST)[::2] == (502, f"502: flyted's gateway {BROKE_OFF}; {see}")
    box.reconfigured(("timeout server 15m", "timeout server 300ms"))
    assert box.get("/hold", host=GATEWAY_HOST)[::2] == (504, f"504: flyted's gateway did not answer in time; {see}")
    gateway.release.set()


HOST = f"Host: {A}\r\n".encode()
UNREADABLE = {  # → the status of HAProxy's own page
    b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"X y: a\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * BUFFER + b"\r\n\r\n": 400,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n": 400,
    b"GET / HT": 408,
    b"GET / HTTP/1.0\r\n" + HOST + b"Content-Length: 1\r\n\r\nx": 413,
    b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n": 422,
}


@pytest.mark.parametrize("request_", UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_is_no_request_gets_haproxys_own_page_and_nothing_of_ours(box: Machine, request_: bytes) -> None:
    """It has no words for ours there; what is said is its version's page for the status, which names nobody."""
    box.reconfigured(("timeout http-request 5s", "timeout http-request 500ms"))
    apply(box, one(box))
    for answer in (box.send(request_), box.send_plain(request_)):
        status, _, body = parsed(answer)
        assert status == UNREADABLE[request_]
        assert re.fullmatch(rf"<html><body><h1>{status} [^<]*</h1>\n[^<]*\n</body></html>\n", body), body


def test_no_other_failure_has_that_page(box: Machine) -> None:
    """All statuses that HAProxy's streams give by themselves (http_ana.c), where each can be brought about."""
    config = (box.files / "haproxy.cfg").read_text()
    apps, gateway = config.split("\nbackend apps\n")[1], config.split("\nbackend gateway\n")[1].split("\nbackend ")[0]
    head = config.split("\ndefaults usual\n")[1].split("\nbackend ")[0]
    for part, statuses in ((head, {400, 408, 500}), (apps, {502, 503, 504}), (gateway, {502, 503, 504})):
        assert {int(status) for status in re.findall(r"^    http-error status (\d+) ", part, re.MULTILINE)} == statuses
    # those of rules (deny, auth, monitor-uri, early data) are not there: ours return a text of their own
    for word in ("http-request deny", "http-request auth", "tarpit", "monitor-uri", "allow-0rtt", "errorfile"):
        assert word not in config
