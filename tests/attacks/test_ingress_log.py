"""What clients can make of the ingress's entries in the journal: nothing but values. With a real HAProxy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flyted.plan.ingress.clients import ClientRules
from tests.attacks import http2
from tests.host.haproxy import A, Machine, needs_haproxy, one, until

pytestmark = [pytest.mark.slow, needs_haproxy]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Machine]:
    """One with an app, that logs each request."""
    made = Machine(tmp_path)
    made.listen = replace(made.listen, clients=ClientRules(access_log=True))
    try:
        made.app("a-r1-0")
        made.ingress.write(one(made), made.listen)
        made.start()
        yield made
    finally:
        made.close()


def request(path: bytes, host: bytes = A.encode(), method: bytes = b"GET") -> bytes:
    """A request by HTTP/1.1."""
    return method + b" " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"


def test_bytes_of_a_log_line_are_never_control_characters(box: Machine) -> None:
    """What a client sends into the log is escaped there, and no query string is logged."""
    box.send(request(b"/silent\x1b[31m?token=CANARY-7f3a91"))
    box.send(request(b"/silent/%1b%0a?token=CANARY-7f3a91"))
    until(lambda: "/silent" in box.log.read_text())
    logged = box.log.read_text()
    assert "CANARY" not in logged + repr(box.entries)
    assert "\x1b" not in logged


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\0\n", b"%0a"])
def test_no_client_forges_a_field(box: Machine, end: bytes) -> None:
    """Fields are divided by line breaks: requests with one in their path, host or method are refused."""
    forged = end + b"FLYTED_USER=root"
    for path, host, method in (
        (b"/forged" + forged, A.encode(), b"GET"), (b"/forged", A.encode() + forged, b"GET"),
        (b"/forged", A.encode(), b"GET" + forged),
    ):  # fmt: skip
        box.send(request(path, host, method))
        with http2.connected(box) as connection:
            http2.sent(connection, 1, http2.request(path, host, method))
            http2.frames(connection, 2, {(http2.DATA, 1), (http2.RST_STREAM, 1), (http2.GOAWAY, 0)})
    box.send(request(b"/last"))
    until(lambda: any(each.get("FLYTED_PATH") == "/last" for each in box.entries))
    assert len(box.entries) > 2
    assert {each.get("FLYTED_USER", "-") for each in box.entries} == {"-"}
    assert {each["SYSLOG_IDENTIFIER"] for each in box.entries} == {"flyted-ingress"}
