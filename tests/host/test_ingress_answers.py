"""What a visitor of the real HAProxy gets, which certificate, and what is counted about it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from dataclasses import replace

import pytest

from flyted.contract.errors import HostFailure
from flyted.host.ca import issue_leaf
from flyted.plan.idle import Idle, decide, look, start
from flyted.plan.ingress.state import Unavailable
from tests.host.haproxy import A, B, apply, exchange, needs_haproxy, one, parsed, until

pytestmark = [pytest.mark.slow, needs_haproxy]


def test_an_unavailable_app_says_why(box):
    """503 with Retry-After and the reason as text, or JSON for who asks; it wins over the host's server."""
    box.app("a-r1-0")
    reason = Unavailable('stopped; "see" %[src] \\ é', 42)
    apply(box, replace(one(box), unavailable={A: reason}))
    status, head, body = box.get()
    assert (status, body) == (503, f"503: {reason.reason}\n")
    assert "retry-after: 42" in head
    assert "content-type: text/plain; charset=utf-8" in head
    status, head, body = box.get(headers="Accept: application/json\r\n")
    assert (status, body) == (503, '{"error":"stopped; \\"see\\" %[src] \\\\ \\u00e9"}\n')
    assert "retry-after: 42" in head
    apply(box, one(box))
    assert box.get()[0] == 200


def test_an_app_that_does_not_listen_is_a_503_with_retry_after(box):
    """No socket: an answer at once, in our words."""
    apply(box, one(box))
    status, head, body = box.get()
    assert (status, body) == (503, '503: "a" cannot serve now; its operator can see why: flytectl app get a\n')
    assert "retry-after: 5" in head


def test_an_app_has_its_own_time_limit(box):
    """The limit of the map counts for its server; it ends in our 504."""
    app = box.app("a-r1-0")
    apply(box, one(box, limit=1000))
    begin = time.monotonic()
    status, _head, body = box.get("/hold")
    assert status == 504
    assert body == (
        '504: "a" did not answer within 1 s; its operator can allow more: Timeouts(request=...) in the app\'s file\n'
    )
    assert 0.9 < time.monotonic() - begin < 4
    app.release.set()


def test_no_request_reaches_an_app_twice(box):
    """An app that breaks off before it answers has seen it once: one that kills its app would kill it again."""
    app = box.app("a-r1-0")
    apply(box, one(box))
    assert box.get("/silent")[0] == 502
    assert len(app.seen) == 1
    app.seen.clear()
    post = b"POST /silent HTTP/1.1\r\nHost: a.apps.localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert parsed(box.send(post))[0] == 502
    assert len(app.seen) == 1


def test_each_request_is_a_connection_of_its_own(box):
    """A client that keeps its connection gives the app a new one per request: a stop can break none."""
    app = box.app("a-r1-0")
    apply(box, one(box))
    with box.connect() as kept:
        for _ in range(3):
            assert exchange(kept, b"GET / HTTP/1.1\r\nHost: a.apps.localhost\r\n\r\n", quiet=0.3).startswith(
                b"HTTP/1.1 200"
            )
    assert app.connections == 3


def test_a_burst_beyond_maxconn_waits_instead_of_failing(box):
    """Forty requests for a server that may have four: all are answered."""
    box.app("a-r1-0")
    apply(box, replace(one(box), servers={"a-r1-0": box.server("a-r1-0", maxconn=4)}))
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(box.get("/busy")[0])) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 40


def test_http_leads_to_https_for_known_hosts_only(box):
    """308 to the right port with path and query; an unknown host is 421 and is not repeated in the answer."""
    apply(box, replace(one(box), unavailable={B: Unavailable("stopped")}))
    for host in (A, B, A.upper() + ":80"):
        post = f"POST /p?q=1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        status, head, body = parsed(box.send_plain(post.encode()))
        wanted = host.split(":")[0].lower()
        assert status == 308
        assert f"location: https://{wanted}:{box.listen.https_port}/p?q=1\r\n" in head + "\r\n"
        assert body == f"308: use https://{wanted}:{box.listen.https_port}\n"
    answer = box.send_plain(b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert parsed(answer)[0] == 421
    assert b"evil" not in answer


def test_the_counters_tell_an_idle_app_from_a_busy_one(box):
    """Real counters through the real arithmetic: busy while a request waits, idle since its end afterwards."""
    app = box.app("a-r1-0")
    apply(box, one(box))

    def counted():
        return asyncio.run(box.ingress.stats())["a-r1-0"]

    clock = start(time.monotonic())
    assert (counted().started, counted().last_start_age_s) == (0, None)
    with box.connect() as held:
        held.sendall(b"GET /hold HTTP/1.1\r\nHost: a.apps.localhost\r\nConnection: close\r\n\r\n")
        until(lambda: app.seen)
        clock = look(clock, counted(), time.monotonic())
        assert clock.busy
        time.sleep(1.5)
        app.release.set()
        exchange(held, b"")
    ended = time.monotonic()
    until(lambda: not counted().busy)
    traffic = counted()
    assert (traffic.started, traffic.answered) == (1, 1)
    assert traffic.longest_s >= 1.4
    clock = look(clock, traffic, time.monotonic())
    assert not clock.busy
    assert ended - 0.5 <= clock.since <= time.monotonic()
    assert isinstance(decide(clock, 300, clock.since + 300), Idle)


def test_a_lost_request_shows_in_the_counters(box):
    """A 504 is started but never answered, and is missing in the longest time: the arithmetic relies on it."""
    app = box.app("a-r1-0")
    apply(box, one(box, limit=1200))
    assert box.get("/hold")[0] == 504
    app.release.set()
    traffic = asyncio.run(box.ingress.stats())["a-r1-0"]
    assert (traffic.started, traffic.answered, traffic.busy) == (1, 0, False)
    assert traffic.longest_s < 1


def test_counters_of_a_new_process_are_told_from_the_old_ones(box):
    """A restart of HAProxy is seen even when the numbers happen to be equal."""
    box.app("a-r1-0")
    apply(box, one(box))
    box.get()
    before = asyncio.run(box.ingress.stats())["a-r1-0"]
    box.stop()
    box.start()
    box.get()
    now = asyncio.run(box.ingress.stats())["a-r1-0"]
    assert now.started == before.started
    assert now.process != before.process
    assert now.uptime_s < 60


def test_a_new_certificate_is_served_without_a_restart(box):
    """New connections get the new one; one that exists goes on."""
    box.app("a-r1-0")
    apply(box, one(box))
    with box.connect() as old:
        first = old.getpeercert()
        assert first is not None
        asyncio.run(box.ingress.set_certificate(issue_leaf(box.ca).pem))
        with box.connect() as new:
            second = new.getpeercert()
        assert second is not None
        assert first["serialNumber"] != second["serialNumber"]
        assert exchange(old, b"GET / HTTP/1.1\r\nHost: a.apps.localhost\r\nConnection: close\r\n\r\n").startswith(
            b"HTTP/1.1 200"
        )
    asyncio.run(box.ingress.set_certificate(issue_leaf(box.ca).pem))


def test_a_bad_certificate_changes_nothing(box):
    """HAProxy's own words, without the key; the old certificate stays, and a good one is taken afterwards."""
    for bad in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", issue_leaf(box.ca).pem[:900]):
        with pytest.raises(HostFailure) as caught:
            asyncio.run(box.ingress.set_certificate(bad))
        assert "PRIVATE" not in caught.value.message
        with box.connect() as connection:
            assert connection.getpeercert()
    asyncio.run(box.ingress.set_certificate(issue_leaf(box.ca).pem))


def test_only_modern_tls_is_spoken(box):
    """TLS 1.2 with AEAD ciphers, and 1.3; nothing older."""

    def speak(version: ssl.TLSVersion, ciphers: str = "ALL:@SECLEVEL=0") -> str | None:
        context = box.tls()
        context.set_ciphers(ciphers)
        context.minimum_version = context.maximum_version = version
        plain = socket.create_connection(("127.0.0.1", box.listen.https_port), 10)
        with plain, context.wrap_socket(plain, server_hostname=A) as connection:
            spoken: str | None = connection.version()
            return spoken

    assert speak(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    assert speak(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256") == "TLSv1.2"
    for version, ciphers in (
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA"),
    ):
        old = "1_2" not in version.name
        with pytest.warns(DeprecationWarning) if old else contextlib.nullcontext(), pytest.raises(ssl.SSLError):
            speak(version, ciphers)
