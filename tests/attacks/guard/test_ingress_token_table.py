"""The table of tokens counts from the next request on, whatever the protocol, and tells nobody a token.

Against a real HAProxy.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyted.contract import token as text
from flyted.plan.ingress.auth import TOKENS
from flyted.plan.ingress.state import unavailable
from tests.attacks import http2
from tests.attacks.guard.sent import (
    COOKIE,
    EXPIRED,
    GOOD,
    HERE,
    OTHER,
    UNKNOWN,
    bearer,
    fields,
    made,
    state,
    tell,
    token_table,
)
from tests.host.haproxy import App, Machine, apply, exchange, needs_haproxy, parsed

pytestmark = [pytest.mark.slow, needs_haproxy]


def test_a_guarded_app_tells_strangers_nothing_of_why_it_is_away(box: Machine, apps: dict[str, App], app: App) -> None:
    """The reason of a failure is a line of its log: for whoever may see the app."""
    away = replace(state(box), unavailable={"a.apps.localhost": unavailable("KeyError: 'CANARY'")})
    try:
        apply(box, away)
        status, _, body = box.get()
        assert (status, "CANARY" in body) == (401, False)
        status, _, body = box.get(headers=bearer(GOOD))
        assert (status, "CANARY" in body) == (503, True)
        assert box.get("/.flyted/session")[2] == "gateway\n"
    finally:
        apply(box, state(box))


def test_revoking_bites_at_once_and_on_open_connections(box: Machine, app: App) -> None:
    """The next request of a connection that was let in before is refused."""
    request = f"GET / HTTP/1.1\r\nHost: a.apps.localhost\r\n{bearer(GOOD)}\r\n".encode()
    with box.connect() as connection:
        assert parsed(exchange(connection, request, quiet=0.3))[0] == 200
        without = {d: v for d, v in token_table().items() if d != text.digest(GOOD)}
        tell(box, without)
        assert parsed(exchange(connection, request, quiet=0.3))[0] == 401
    tell(box, token_table())
    assert box.get(headers=bearer(GOOD))[0] == 200


def test_http2_is_guarded_alike(box: Machine, app: App) -> None:
    """Also where a cookie comes in pieces (RFC 9113 8.2.3), and the app sees none of it."""

    def asked(*more: tuple[bytes, bytes]) -> int:
        with http2.connected(box) as connection:
            http2.sent(connection, 1, [*http2.request(), *more])
            http2.frames(connection, 20, {(http2.RST_STREAM, 1), (http2.GOAWAY, 0), (http2.DATA, 1)})
        return len(app.seen)

    assert asked() == 0
    assert asked((b"authorization", bearer(EXPIRED).split(": ", 1)[1].strip().encode())) == 0
    assert asked((b"authorization", b"Bearer " + GOOD.encode())) == 1
    assert asked((b"cookie", b"a=1"), (b"cookie", COOKIE.encode()), (b"cookie", b"b=2")) == 2
    assert fields(app.seen[1])["cookie"] == "a=1; b=2"
    assert all(b"flyted_" not in request for request in app.seen)


PIECES = st.sampled_from(
    ["__Host-flyted", "__host-flyted", "flyted", "a", "=", "=", ";", "; ", ",", " ", "\t", '"', "\\", "%3D",
     "$Version", HERE, HERE, GOOD, OTHER, HERE[:-1], "flyted_", "Bearer ", "bearer", "Basic ", "\u00e9", "\x7f"]
)  # fmt: skip
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["Cookie", "cookie", "Authorization", "authorization", "Cookie2", "Set-Cookie"]),
        st.lists(PIECES, max_size=8).map("".join),
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(HEADERS, st.sampled_from("ac"))
def test_whatever_is_sent_no_app_gets_a_token_in_its_cookies_or_credentials(box, apps, headers, name):
    """Random pieces in random order: what reaches an app has no token where it would be looked for.

    And only a request that has a token that is good there, whole, reaches the app that wants one.
    """
    for one in apps.values():
        one.seen.clear()
    lines = "".join(f"{field}: {value}\r\n" for field, value in headers)
    raw = f"GET / HTTP/1.1\r\nHost: {name}.apps.localhost\r\nConnection: close\r\n{lines}\r\n"
    status = parsed(box.send(raw.encode("latin-1"), host=f"{name}.apps.localhost"))[0]
    assert status in (200, 400, 401)
    for request in apps[name].seen:
        for line in request.lower().split(b"\r\n"):
            if line.startswith((b"cookie:", b"authorization:")):
                assert re.search(text.SHAPE.lower().encode(), line) is None
    if name == "a" and apps["a"].seen:
        assert HERE in lines or GOOD in lines


def test_the_log_has_no_token(box: Machine, app: App) -> None:
    """Not of a refused request, not in an address."""
    box.get(f"/silent?token={GOOD}", headers=bearer(GOOD))
    box.get(f"/.flyted/session?code={GOOD}", headers=bearer(UNKNOWN))
    box.get("/", headers=bearer(UNKNOWN) + f"Cookie: {COOKIE}\r\n")
    assert "flyted_" not in box.log.read_text()


def test_a_killed_haproxy_comes_back_with_the_same_tokens(box: Machine, app: App) -> None:
    """The files were written first; a token made while it was down counts too."""
    newest = made(9)
    box.stop()
    box.ingress.tokens = lambda: {**token_table(), text.digest(newest): f"{int(time.time()) + 60} * carol"}
    box.ingress.write_tokens()
    box.start()
    assert box.get()[0] == 401
    assert box.get(headers=bearer(GOOD))[0] == 200
    assert box.get(headers=bearer(newest))[0] == 200
    assert fields(app.seen[1])["x-flyte-user"] == "carol"
    tell(box, token_table())
    assert box.get(headers=bearer(newest))[0] == 401


def test_the_table_on_disk_has_digests_only(box: Machine, app: App) -> None:
    """0640: it says who has tokens, never which."""
    file = box.files / TOKENS
    assert file.stat().st_mode & 0o777 == 0o640
    content = file.read_text()
    assert text.digest(GOOD) in content
    assert "flyted_" not in content


def test_five_thousand_tokens_are_no_burden(box: Machine, app: App) -> None:
    """The most that ten users can have: told in a bounded time, and still found."""
    many = {text.digest(f"t{i}"): f"{int(time.time()) + 3600} * user{i % 10}" for i in range(5000)}
    begin = time.monotonic()
    tell(box, {**token_table(), **many})
    assert time.monotonic() - begin < 60
    assert box.get(headers=bearer(GOOD))[0] == 200
    tell(box, token_table())
