"""Nobody gets a request past the ingress's rules: not inside another, not under another name, not in another protocol.

Each attack is followed by a canary request on the same connection: where the attack is refused the canary never
reaches the app. What the app sees is HAProxy's own clean spelling, one request per connection.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time

import pytest

from tests.attacks import http2
from tests.host.haproxy import App, Machine, exchange, needs_haproxy, parsed, until

pytestmark = [pytest.mark.slow, needs_haproxy]

HOST = b"Host: a.apps.localhost\r\n"
CANARY = b"GET /canary HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n"


def get(lines: bytes, target: bytes = b"/") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + lines + b"\r\n"


def post(lines: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST / HTTP/" + version + b"\r\n" + HOST + lines + b"\r\n" + body


REFUSED = {
    "two encodings": post(CHUNKED + b"Transfer-Encoding: x\r\n", END),
    "chunked is not last": post(b"Transfer-Encoding: chunked, x\r\n", END),
    "space before the colon": post(b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", END),
    "vertical tab before the value": post(b"Transfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n", END),
    "unknown encoding": post(b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", END),
    "two lengths": post(b"Content-Length: 0\r\nContent-Length: 50\r\n"),
    "list of lengths": post(b"Content-Length: 0, 50\r\n"),
    "signed length": post(b"Content-Length: +0\r\n"),
    "negative length": post(b"Content-Length: -1\r\n"),
    "hexadecimal length": post(b"Content-Length: 0x0\r\n"),
    "endless length": post(b"Content-Length: 99999999999999999999999999\r\n"),
    "length that 64 bits hold as 1": post(b"Content-Length: 18446744073709551617\r\n", b"x"),
    "empty length": post(b"Content-Length: \r\n"),
    "signed chunk": post(CHUNKED, b"+0\r\n\r\n"),
    "endless chunk": post(CHUNKED, b"fffffffffffffffff0\r\n\r\n"),
    "chunk longer than said": post(CHUNKED, b"2\r\nxxY0\r\n\r\n"),
    "bare CR": get(HOST + b"X: a\rY: b\r\n"),
    "NUL in a value": get(HOST + b"X: a\x00b\r\n"),
    "NUL in the target": get(HOST, b"/\x00"),
    "NUL in the host": get(b"Host: a.apps.localhost\x00.evil.example\r\n"),
    "control character in a name": get(HOST + b"X\x01: a\r\n"),
    "space in a name": get(HOST + b"X y: a\r\n"),
    "space before the first field": get(b" " + HOST),
    "line without a colon": get(HOST + b"Xabc\r\n"),
    "two hosts": get(HOST + b"Host: b.apps.localhost\r\n"),
    "list of hosts": get(b"Host: a.apps.localhost, b.apps.localhost\r\n"),
    "underscore in the host": get(b"Host: a_.apps.localhost\r\n"),
    "user in the host": get(b"Host: x@a.apps.localhost\r\n"),
    "path in the host": get(b"Host: a.apps.localhost/x\r\n"),
    "no host": get(b""),
    "another host in the target": get(HOST, b"http://b.apps.localhost/"),
    "fragment": get(HOST, b"/#x"),
    "method with an odd character": b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "encoding in HTTP/1.0": post(CHUNKED + b"Content-Length: 5\r\n", END, b"1.0"),
    "HTTP/0.9": b"GET /\r\n",
}

CLOSED = {  # RFC 9112 6.1: the encoding counts, the length goes, and the connection ends with the answer
    "length, then encoding": post(b"Content-Length: 5\r\n" + CHUNKED, END),
    "encoding, then length": post(CHUNKED + b"Content-Length: 5\r\n", END),
    "tab before the value": post(b"Transfer-Encoding:\tchunked\r\nContent-Length: 5\r\n", END),
    "folded encoding": post(b"Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n", END),
}

TIDIED = {  # odd but clear, or refused, by HAProxy's version: whatever reaches the app is clean
    "bare LF": b"GET / HTTP/1.1\nHost: a.apps.localhost\n\n",
    "bare LF after a chunk": post(CHUNKED, b"0\n\n"),
    "bare LF in a chunk extension": post(CHUNKED, b"2;\nxx\r\n0\r\n\r\n"),
    "NUL in a chunk extension": post(CHUNKED, b"2;\x00\r\nxx\r\n0\r\n\r\n"),
    "folded value": get(HOST + b"X: a\r\n b\r\n"),
    "the same host twice": get(HOST + HOST),
    "length with zeros before it": post(b"Content-Length: 00000000000000000001\r\n", b"x"),
    "the same length twice": post(b"Content-Length: 0\r\nContent-Length: 0\r\n"),
    "encoding with an underscore": post(b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", END),
    "whole URL": get(HOST, b"https://a.apps.localhost/x"),
    "whole URL with a user": get(HOST, b"https://u:p@a.apps.localhost/x"),
}


def attack(box: Machine, raw: bytes) -> list[bytes]:
    """The status lines of all answers to an attack with the canary behind it."""
    with box.connect() as connection:
        answers = exchange(connection, raw + CANARY, quiet=0.5)
    return re.findall(rb"^HTTP/1\.1 (\d+)", answers, re.MULTILINE)


def canaries(app: App) -> int:
    return sum(b"canary" in request for request in app.seen)


def clean(request: bytes) -> bool:
    """One request in the one spelling: CRLF only, no control characters, never both length and encoding."""
    head, _, _ = request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    fields = [line.partition(b": ")[0].lower() for line in lines[1:]]
    return (
        re.fullmatch(rb"[A-Z]+ /[^ #]* HTTP/1\.1", lines[0]) is not None
        and not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", b"".join(lines))
        and fields.count(b"host") == 1
        and not {b"content-length", b"transfer-encoding"} <= set(fields)
        and len(fields) == len(set(fields))
    )


def test_the_canary_works(box, app):
    """Without an attack both requests are answered, each on its own connection: the tests below can fail."""
    assert attack(box, get(HOST)) == [b"200", b"200"]
    assert canaries(app) == 1
    assert all(clean(request) for request in app.seen)


@pytest.mark.parametrize("name", REFUSED)
def test_an_ambiguous_request_is_refused_and_the_connection_closed(box, app, name):
    """One 400; neither the request nor what came behind it reaches the app."""
    assert attack(box, REFUSED[name]) == [b"400"]
    assert app.seen == []


def test_an_encoding_that_nobody_knows_is_refused(box, app):
    """`x, chunked` cannot be decoded here: nothing reaches the app, and the rest is not taken for a request."""
    assert attack(box, post(b"Transfer-Encoding: x, chunked\r\n", END))[0] in (b"400", b"422", b"501")
    assert canaries(app) == 0


@pytest.mark.parametrize("name", CLOSED)
def test_length_and_encoding_together_end_the_connection(box, app, name):
    """The app gets one clean request; the canary behind it is dropped with the connection."""
    assert attack(box, CLOSED[name]) in ([b"200"], [b"400"])
    assert canaries(app) == 0
    assert all(clean(request) for request in app.seen), app.seen


@pytest.mark.parametrize("name", TIDIED)
def test_an_odd_spelling_never_reaches_the_app(box, app, name):
    """Refused, or passed on in HAProxy's own spelling, as many requests as answers: both sides saw the same."""
    statuses = attack(box, TIDIED[name])
    assert statuses in ([b"400"], [b"200", b"200"])
    assert len(app.seen) == statuses.count(b"200")
    assert all(clean(request) for request in app.seen)


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE"])
def test_methods_that_are_not_for_apps_stay_outside(box, app, method):
    """No tunnel into an app, no echo of headers."""
    raw = method + b" / HTTP/1.1\r\n" + HOST + b"\r\n"
    assert attack(box, raw)[0] in (b"400", b"405")
    assert [r for r in app.seen if b"canary" not in r] == []


def test_no_other_protocol_is_spoken_past_the_rules(box, app):
    """`Upgrade: h2c` would be a tunnel in which nothing is checked: the app is not asked for it."""
    lines = HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQA\r\n"
    attack(box, get(lines))
    assert not re.search(rb"upgrade|http2-settings", app.seen[0].lower())


def test_websockets_are_spoken(box, app):
    """The one upgrade there is; and it counts as a request in flight for as long as it is open."""
    lines = (
        HOST
        + b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    with box.connect() as connection:
        connection.sendall(get(lines, b"/ws"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
        for word in (b"one", b"two"):
            connection.sendall(word)
            assert connection.recv(4096) == word
        assert asyncio.run(box.ingress.stats())["a-r1-0"].in_flight == 1
    assert b"\r\nconnection: upgrade\r\n" in app.seen[0].lower()
    until(lambda: asyncio.run(box.ingress.stats())["a-r1-0"].in_flight == 0)


FORGED = (
    b"X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: evil\r\n"
    b"X-Forwarded-Prefix: /evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Flyte-User: root\r\n"
    b"X_Forwarded_For: 6.6.6.6\r\nX_Flyte_User: root\r\nX-Flyte: 1\r\nProxy: http://evil\r\n"
    b"Connection: X-Forwarded-For, close\r\n"
)


def test_what_a_client_says_about_itself_is_not_believed(box, app):
    """Forwarding headers and ours are removed, in every spelling, and set from what the ingress knows."""
    answer = box.send(get(HOST + FORGED))
    assert parsed(answer)[0] == 200
    fields = app.seen[0].partition(b"\r\n\r\n")[0].lower().split(b"\r\n")[1:]
    assert sorted(fields) == [
        b"connection: close",
        b"host: a.apps.localhost",
        b"x-forwarded-for: 127.0.0.1",
        b"x-forwarded-host: a.apps.localhost",
        b"x-forwarded-proto: https",
    ]


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost", "127.0.0.1", "[::1]:443", "b.apps.localhost.", "apps.localhost"]
)
def test_only_names_that_are_served_are_answered(box, app, host):
    """421 for any other Host (DNS rebinding comes with its own), on both ports, and it is not echoed."""
    raw = get(f"Host: {host}\r\nConnection: close\r\n".encode())
    for answer in (box.send(raw), box.send_plain(raw)):
        assert parsed(answer)[0] == 421
        assert host.encode() not in answer
    assert app.seen == []


@pytest.mark.parametrize("host", ["A.Apps.LocalHost", "a.apps.localhost:8443", "a.apps.localhost:1"])
def test_case_and_port_of_a_host_do_not_matter(box, app, host):
    """Names are compared in lower case, without the port."""
    assert parsed(box.send(get(f"Host: {host}\r\nConnection: close\r\n".encode())))[0] == 200


def h2(box: Machine, fields: http2.Fields, body: bytes | None = None) -> tuple[int, list[tuple[int, int, bytes]]]:
    """Streams answered with headers, and all frames, for one hand-made request and a canary on the next stream."""
    with http2.connected(box) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        http2.sent(connection, 1, fields, body=body)
        done = {(http2.RST_STREAM, 1), (http2.GOAWAY, 0), (http2.DATA, 1)}
        found = http2.frames(connection, 20, done)
    return sum(kind == http2.HEADERS for kind, _, _ in found), found


def test_http2_works(box, app):
    """A valid request by hand is answered, and the app sees it in the same clean spelling, with our headers."""
    answered, found = h2(
        box, [*http2.request(b"/x?y=z"), (b"x-forwarded-for", b"6.6.6.6"), (b"x-flyte-user", b"root")]
    )
    assert answered == 1
    assert (http2.DATA, 1, b"a-r1-0\n") in found
    assert clean(app.seen[0])
    assert app.seen[0].startswith(b"GET /x?y=z HTTP/1.1\r\n")
    assert b"6.6.6.6" not in app.seen[0]
    assert b"x-flyte" not in app.seen[0].lower()


SMUGGLED = b"x\r\n\r\nGET /canary HTTP/1.1\r\nHost: a.apps.localhost\r\n\r\n"
H2_REFUSED: dict[str, tuple[http2.Fields, bytes | None]] = {
    "CRLF in a value": ([*http2.request(), (b"x", SMUGGLED)], None),
    "LF in a value": ([*http2.request(), (b"x", SMUGGLED.replace(b"\r", b""))], None),
    "NUL in a value": ([*http2.request(), (b"x", b"a\x00b")], None),
    "CRLF in a name": ([*http2.request(), (b"x: y\r\ncanary", b"1")], None),
    "colon in a name": ([*http2.request(), (b"transfer-encoding: chunked\r\nx", b"1")], None),
    "capital in a name": ([*http2.request(), (b"X", b"1")], None),
    "CRLF in the path": (http2.request(b"/ HTTP/1.1\r\n" + HOST + b"\r\nGET /canary"), None),
    "space in the path": (http2.request(b"/ HTTP/1.1 canary"), None),
    "CRLF in the method": (http2.request(method=b"GET /canary HTTP/1.1\r\nX: "), None),
    "CRLF in the authority": (http2.request(host=b"a.apps.localhost\r\nX: canary"), None),
    "encoding": ([*http2.request(method=b"POST"), (b"transfer-encoding", b"chunked")], END + CANARY),
    "connection header": ([*http2.request(), (b"connection", b"transfer-encoding")], None),
    "length shorter than the body": ([*http2.request(method=b"POST"), (b"content-length", b"5")], END + CANARY),
    "two lengths": (
        [*http2.request(method=b"POST"), (b"content-length", b"5"), (b"content-length", b"60")], END + CANARY),
    "two paths": ([*http2.request(), (b":path", b"/canary")], None),
    "another host": ([*http2.request(), (b"host", b"b.apps.localhost")], None),
    "pseudo header at the end": ([*http2.request()[:3], (b"x", b"1"), (b":path", b"/canary")], None),
    "no path": (http2.request()[:3], None),
}  # fmt: skip


@pytest.mark.parametrize("name", H2_REFUSED)
def test_http2_cannot_say_what_http1_would_take_apart(box, app, name):
    """Fields that would end a line, a length or a name in HTTP/1 are refused; no canary reaches the app."""
    fields, body = H2_REFUSED[name]
    h2(box, fields, body)
    assert canaries(app) == 0
    assert all(clean(request) for request in app.seen)
    assert not any(b"b.apps.localhost" in request for request in app.seen)
    assert box.get()[0] == 200, "the ingress goes on"


def test_slow_and_silent_clients_lock_nobody_out(box, app):
    """Three hundred connections that dribble a header or say nothing: another client is answered meanwhile."""
    slow = []
    for i in range(300):
        connection = socket.create_connection(
            ("127.0.0.1", box.listen.http_port if i % 2 else box.listen.https_port), 10
        )
        if i % 2:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a.apps.localhost\r\nX-")
        slow.append(connection)
    begin = time.monotonic()
    assert box.get()[0] == 200
    assert time.monotonic() - begin < 4
    with slow[1]:
        slow[1].settimeout(60)
        assert slow[1].recv(64).startswith(b"HTTP/1.1 408 "), "headers have five seconds"
    for connection in slow:
        connection.close()


def test_a_hundred_streams_of_one_client_are_answered(box, app):
    """Many requests on one HTTP/2 connection: each is answered, each reached the app on a connection of its own."""
    before = app.connections
    with http2.connected(box) as connection:
        for stream in range(1, 200, 2):
            http2.sent(connection, stream, http2.request(b"/busy"))
        found = http2.frames(connection, 5, set())
    assert sum(kind == http2.HEADERS for kind, _, _ in found) == 100
    assert app.connections - before == 100
