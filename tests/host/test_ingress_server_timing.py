"""How long a wake took, in the answer for which the app was woken, with a real HAProxy."""

from __future__ import annotations

import re
import threading
import time

import pytest

from tests.attacks import http2
from tests.host.haproxy import A, Machine, apply, needs_haproxy, one
from tests.host.test_no_wake import ICON, awake

pytestmark = [pytest.mark.slow, needs_haproxy]


def timings(head: str) -> list[str]:
    """The values of all such headers."""
    return re.findall(r"(?im)^server-timing: (.*?)\r?$", head + "\r\n")


def test_the_answer_that_woke_says_how_long_it_took(box: Machine) -> None:
    """In whole milliseconds; what the app says of itself stays, and one that is awake adds nothing."""
    app = box.app("a-r1-0")
    body = b"HTTP/1.1 200 OK\r\nServer-Timing: db;dur=5\r\nContent-Length: 0\r\n\r\n"
    app.answers[b"/own"] = body
    apply(box, one(box))
    threading.Timer(0.3, app.release.set).start()
    began = time.monotonic()
    found = timings(box.get("/hold")[1])
    took_ms = (time.monotonic() - began) * 1000
    assert len(found) == 1
    assert 250 <= int(found[0].removeprefix("wake;dur=")) <= took_ms + 2
    assert timings(box.get("/own")[1])[0] == "db;dur=5"
    apply(box, awake(one(box)))
    assert timings(box.get()[1]) == []
    assert timings(box.get("/own")[1]) == ["db;dur=5"]


def test_each_kind_of_request_has_it(box: Machine) -> None:
    """POST, a stream of HTTP/2, and a second request of a connection; not what the ingress answers itself."""
    box.app("a-r1-0")
    apply(box, one(box))
    post = f"POST / HTTP/1.1\r\nHost: {A}\r\nContent-Length: 2\r\n\r\nhi"
    both = box.send(post.encode() + post.replace("POST", "PUT").encode()).decode()
    assert both.count("HTTP/1.1 200 OK") == both.lower().count("server-timing: wake;dur=") == 2
    with http2.connected(box) as connection:
        http2.sent(connection, 1, http2.request())
        found = http2.frames(connection, 5, {(http2.DATA, 1)})
    assert any(b"wake;dur=" in payload for kind, _, payload in found if kind == http2.HEADERS)
    assert timings(box.get(ICON)[1]) == []
