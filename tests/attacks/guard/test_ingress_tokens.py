"""Nobody gets to an app that wants a token without one, and no app gets to see a token. Against a real HAProxy."""

from __future__ import annotations

import asyncio
import time

import pytest

from flyted.contract import token as text
from flyted.plan.ingress.auth import SIGN_IN, USES
from tests.attacks.guard.sent import (
    BROWSER,
    COOKIE,
    EXPIRED,
    GOOD,
    HERE,
    OTHER,
    UNKNOWN,
    bearer,
    fields,
)
from tests.host.haproxy import App, Machine, needs_haproxy

pytestmark = [pytest.mark.slow, needs_haproxy]


def test_without_a_token_the_app_is_not_even_woken(box: Machine, app: App) -> None:
    """401, how to get one, and no connection to the app."""
    before = app.connections
    status, head, body = box.get()
    assert status == 401
    assert 'www-authenticate: Bearer realm="flyted"' in head
    assert "cache-control: no-store" in head
    assert "flytectl token" in body
    assert app.connections == before


def test_a_program_that_speaks_json_is_answered_in_json(box: Machine, app: App) -> None:
    """The same refusal, readable."""
    status, head, body = box.get(headers="Accept: application/json\r\n")
    assert (status, body) == (401, f'{{"error":"{SIGN_IN}"}}\n')
    assert "content-type: application/json" in head
    assert app.seen == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_a_token_opens_and_the_app_sees_the_user_only(box: Machine, app: App, scheme: str) -> None:
    """The scheme is read in any case (RFC 9110 11.1); the app learns who it is, not by what."""
    assert box.get(headers=f"Authorization: {scheme} {GOOD}\r\n")[0] == 200
    seen = fields(app.seen[0])
    assert seen["x-flyte-user"] == "bob"
    assert "authorization" not in seen
    assert b"flyted_" not in app.seen[0]


def test_a_token_of_one_app_opens_that_app(box: Machine, app: App) -> None:
    """As a bearer token too."""
    assert box.get(headers=bearer(HERE))[0] == 200


REFUSED = {
    "expired": bearer(EXPIRED),
    "unknown, or revoked": bearer(UNKNOWN),
    "of another app": bearer(OTHER),
    "in capitals": bearer(GOOD.upper()),
    "shortened": bearer(GOOD[:-1]),
    "lengthened": bearer(GOOD + "A"),
    "twice in one line": bearer(f"{GOOD}, Bearer {GOOD}"),
    "with another behind a comma": bearer(f"{UNKNOWN},{GOOD}"),
    "with another behind a space": bearer(f"{UNKNOWN} {GOOD}"),
    "with a parameter": bearer(f"{GOOD}; a=b"),
    "in quotes": bearer(f'"{GOOD}"'),
    "of another scheme": f"Authorization: Basic {GOOD}\r\n",
    "of no scheme": f"Authorization: {GOOD}\r\n",
    "with a longer scheme": f"Authorization: XBearer {GOOD}\r\n",
    "without the space": f"Authorization: Bearer{GOOD}\r\n",
    "with a tab": f"Authorization: Bearer\t{GOOD}\r\n",
    "for a proxy": f"Proxy-Authorization: Bearer {GOOD}\r\n",
    "in a header of ours": f"X-Flyte-User: root\r\nX-Flyte-Token: {GOOD}\r\n",
    "its digest": bearer(text.digest(GOOD)),
    "its digest in our shape": bearer("flyted_" + text.digest(GOOD)[:43]),
    "empty": "Authorization: Bearer \r\n",
    "cookie: everything's": f"Cookie: __Host-flyted={GOOD}\r\n",
    "cookie: of another app": f"Cookie: __Host-flyted={OTHER}\r\n",
    "cookie: expired": f"Cookie: __Host-flyted={EXPIRED}\r\n",
    "cookie: of another name": f"Cookie: flyted={HERE}\r\n",
    "cookie: in capitals": f"Cookie: __HOST-FLYTED={HERE}\r\n",
    "cookie: twice": f"Cookie: {COOKIE}; {COOKIE}\r\n",
    "cookie: twice, the first is wrong": f"Cookie: __Host-flyted={UNKNOWN}; {COOKIE}\r\n",
    "cookie: inside another's value": f"Cookie: a=__Host-flyted={HERE}\r\n",
    "cookie: with a longer name": f"Cookie: x__Host-flyted={HERE}\r\n",
    "cookie: empty": "Cookie: __Host-flyted=\r\n",
    "cookie: a map's key with a space": "Cookie: __Host-flyted=* bob\r\n",
    "a wrong token beside a good cookie": bearer(UNKNOWN) + f"Cookie: {COOKIE}\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_else_opens(box: Machine, app: App, name: str) -> None:
    """401 and no connection to the app."""
    before = app.connections
    assert box.get(headers=REFUSED[name])[0] == 401
    assert app.connections == before


@pytest.mark.parametrize(
    "lines",
    [
        bearer(GOOD) + bearer(GOOD),
        bearer(UNKNOWN) + bearer(GOOD),
        bearer(GOOD) + bearer(UNKNOWN),
        "Authorization: Basic eDp5\r\n" + bearer(GOOD),
        f"Cookie: {COOKIE}\r\nCookie: a=b\r\n",
        f"Cookie: a=b\r\nCookie: {COOKIE}\r\n",
    ],
)
def test_what_is_sent_twice_is_refused(box: Machine, app: App, lines: str) -> None:
    """HAProxy and an app might each believe the other one of two."""
    assert box.get(headers=lines)[0] == 400
    assert app.seen == []


def test_a_cookie_opens_its_app_and_is_taken_off(box: Machine, app: App) -> None:
    """The app's own cookies stay as they were."""
    assert box.get(headers=f"Cookie: a=1; {COOKIE}; b=2\r\n")[0] == 200
    seen = fields(app.seen[0])
    assert seen["cookie"] == "a=1; b=2"
    assert seen["x-flyte-user"] == "bob"


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        (COOKIE, ""),
        (f"{COOKIE}; b=2", "b=2"),
        (f"a=1; {COOKIE}", "a=1"),
        (f"a=1;{COOKIE};b=2", "a=1;b=2"),
        (f"a=1 ; {COOKIE} ; b=2", "a=1 ; b=2"),
        (f"a={HERE}; {COOKIE}", "a="),
        (f'a="x{HERE}y"; {COOKIE}', 'a="xy"'),
        (f"a=1, {COOKIE}", None),
    ],
)
def test_no_spelling_of_a_cookie_brings_the_token_to_the_app(
    box: Machine, app: App, sent: str, left: str | None
) -> None:
    """Whoever parses a cookie differently from us finds no token either."""
    box.get(headers=f"Cookie: {sent}\r\n")
    assert all(b"flyted_" not in request for request in app.seen)
    if left is not None:
        assert fields(app.seen[0]).get("cookie", "") == left


@pytest.mark.parametrize(
    "lines",
    [
        bearer(GOOD),
        bearer(UNKNOWN),
        f"Authorization: token {GOOD}\r\n",
        bearer(f"x {GOOD}, y"),
        bearer("x") + bearer(GOOD),
        f"Cookie: {COOKIE}\r\n",
        f"Cookie: x={GOOD}\r\n",
    ],
)
def test_an_app_without_a_guard_sees_no_token_either(box: Machine, apps: dict[str, App], app: App, lines: str) -> None:
    """A user who sends one to the wrong app has not given it away."""
    assert box.get(host="c.apps.localhost", headers=lines)[0] == 200
    assert b"flyted_" not in apps["c"].seen[0]
    assert b"x-flyte" not in apps["c"].seen[0].lower()


def test_an_apps_own_keys_and_cookies_pass(box: Machine, apps: dict[str, App], app: App) -> None:
    """Only what looks like ours is taken; a guarded app may have keys of its own behind the cookie."""
    lines = "Authorization: Bearer my-secret-api-key-12345\r\n"
    assert box.get(host="c.apps.localhost", headers=lines + "Cookie: session=flyted_x\r\n")[0] == 200
    assert fields(apps["c"].seen[0])["authorization"] == "Bearer my-secret-api-key-12345"
    assert fields(apps["c"].seen[0])["cookie"] == "session=flyted_x"
    assert box.get(headers=lines + f"Cookie: {COOKIE}\r\n")[0] == 200
    assert fields(app.seen[0])["authorization"] == "Bearer my-secret-api-key-12345"


@pytest.mark.parametrize("name", ["X-Flyte-User", "x-flyte-user", "X_Flyte_User", "X-Flyte-Groups", "X-Flyted-User"])
def test_nobody_names_the_user_but_us(box: Machine, app: App, name: str) -> None:
    """With a token and without a guard."""
    box.get(headers=f"{name}: root\r\n" + bearer(GOOD))
    assert fields(app.seen[0])["x-flyte-user"] == "bob"
    assert b"root" not in app.seen[0]


def own(token: str) -> str:
    """The second way for programs, which leaves Authorization to the app."""
    return f"X-Flyte-Authorization: Bearer {token}\r\n"


def test_a_token_may_come_in_a_header_of_its_own(box: Machine, app: App) -> None:
    """Authorization is the app's then, whatever is in it; ours is taken off, and a token of ours in the other too."""
    assert box.get(headers=own(GOOD) + "Authorization: Basic dXNlcjpwYXNz\r\n")[0] == 200
    assert box.get(headers=own(GOOD) + "Authorization: Bearer the-apps-own-key\r\n")[0] == 200
    assert box.get(headers=own(GOOD) + bearer(UNKNOWN))[0] == 200
    first, second, third = (fields(request) for request in app.seen)
    assert first["authorization"] == "Basic dXNlcjpwYXNz"
    assert second["authorization"] == "Bearer the-apps-own-key"
    assert "authorization" not in third
    assert [seen["x-flyte-user"] for seen in (first, second, third)] == ["bob"] * 3
    assert not [request for request in app.seen if b"flyted_" in request or b"x-flyte-auth" in request.lower()]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (own(UNKNOWN), 401),
        (own(EXPIRED), 401),
        (own(OTHER), 401),
        (own(UNKNOWN) + bearer(GOOD), 401),
        (own(UNKNOWN) + f"Cookie: {COOKIE}\r\n", 401),
        (own("x") + bearer(GOOD), 401),
        (f"X-Flyte-Authorization: {GOOD}\r\n", 401),
        (f"X-Flyte-Authorization: Basic {GOOD}\r\n", 401),
        ("X-Flyte-Authorization: \r\n" + bearer(GOOD), 401),
        (f"X_Flyte_Authorization: Bearer {GOOD}\r\n", 401),
        (own(UNKNOWN) + BROWSER, 401),
        (own(GOOD) + own(GOOD), 400),
        (own(GOOD) + own(UNKNOWN), 400),
    ],
)
def test_a_header_of_its_own_is_looked_at_alone(box: Machine, app: App, lines: str, status: int) -> None:
    """Nothing else opens where it is wrong, and the app is not woken."""
    before = app.connections
    assert box.get(headers=lines)[0] == status
    assert app.connections == before


def test_an_app_without_a_guard_does_not_see_it(box: Machine, apps: dict[str, App], app: App) -> None:
    """As with all headers of ours."""
    assert box.get(host="c.apps.localhost", headers=own(GOOD))[0] == 200
    assert b"flyted_" not in apps["c"].seen[0]


def test_the_last_use_of_a_token_is_known(box: Machine, app: App) -> None:
    """By its digest, whichever way it came; of one that opened nothing there is no use."""
    asyncio.run(_forget_uses(box))
    assert box.get(headers=bearer(EXPIRED))[0] == box.get(headers=bearer(UNKNOWN))[0] == 401
    assert asyncio.run(box.ingress.token_uses()) == {}
    assert box.get(headers=bearer(GOOD))[0] == 200
    assert box.get(headers=f"Cookie: {COOKIE}\r\n")[0] == 200
    time.sleep(1.5)
    assert box.get(headers=bearer(GOOD))[0] == 200
    ages = asyncio.run(box.ingress.token_uses())
    assert ages.keys() == {text.digest(GOOD), text.digest(HERE)}
    assert ages[text.digest(GOOD)] < 1.4 < ages[text.digest(HERE)] < 30


async def _forget_uses(box: Machine) -> None:
    await box.ingress._haproxy.ask(f"clear table {USES}")
