"""Nobody gets to an app that wants a token without one, and no app gets to see a token. Against a real HAProxy.

The app behind it remembers every connection: an app that saw none was not woken either, since a connection is what
wakes it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyted.contract import token as text
from flyted.contract.names import GATEWAY_HOST
from flyted.plan.ingress import IngressState
from flyted.plan.ingress_guard import LONGEST_NEXT, SIGN_IN, TOKENS
from tests.attacks import http2
from tests.host.haproxy import App, Machine, apply, exchange, machine, needs_haproxy, parsed

pytestmark = needs_haproxy


def made(number: int) -> str:
    """A token of its own for each number."""
    return text.new(bytes([number]) * 32)


GOOD, HERE, EXPIRED, OTHER, UNKNOWN = made(1), made(2), made(3), made(4), made(5)
COOKIE = f"__Host-flyted={HERE}"
BROWSER = "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"


def grants() -> dict[str, str]:
    """What the ingress knows: digests."""
    soon, past = int(time.time()) + 3600, int(time.time()) - 1
    return {
        text.digest(GOOD): f"{soon} * bob",
        text.digest(HERE): f"{soon} a bob",
        text.digest(OTHER): f"{soon} b bob",
        text.digest(EXPIRED): f"{past} * bob",
    }


def tell(box: Machine, tokens: dict[str, str]) -> None:
    """As flyted does after each change."""
    box.ingress.tokens = lambda: tokens
    asyncio.run(box.ingress.apply_tokens())


def state(box: Machine) -> IngressState:
    """App a wants a token, app b another one's, app c none."""
    names = ("a", "b", "c")
    return IngressState(
        servers={f"{n}-r1-0": box.server(f"{n}-r1-0") for n in names},
        hosts={f"{n}.apps.localhost": f"{n}-r1-0" for n in names},
        guarded={f"{n}.apps.localhost": n for n in ("a", "b")},
    )


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """An ingress with the three apps and the four tokens."""
    with machine(tmp_path_factory.mktemp("guard")) as running:
        apply(running, state(running))
        tell(running, grants())
        yield running


@pytest.fixture(scope="module")
def apps(box: Machine) -> dict[str, App]:
    """The apps by name, and the gateway."""
    return {n: box.app(f"{n}-r1-0") for n in "abc"} | {"gateway": box.gateway()}


@pytest.fixture
def app(apps: dict[str, App]) -> App:
    """The guarded app, which has seen nothing yet."""
    for one in apps.values():
        one.seen.clear()
    return apps["a"]


def fields(request: bytes) -> dict[str, str]:
    """What an app was told, by lower-case name."""
    lines = request.decode().partition("\r\n\r\n")[0].split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def bearer(token: str) -> str:
    """The one way for programs."""
    return f"Authorization: Bearer {token}\r\n"


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


PREFLIGHT = (
    "Origin: https://front.example\r\nAccess-Control-Request-Method: POST\r\n"
    "Access-Control-Request-Headers: authorization,content-type\r\n"
)


def ask(
    box: Machine, lines: str, host: str = "a.apps.localhost", method: str = "OPTIONS"
) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer."""
    raw = f"{method} /v1/chat HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n"
    status, head, body = parsed(box.send(raw.encode()))
    assert method != "HEAD" or body == ""
    return status, fields(head.encode())


def test_a_browser_may_ask_whether_it_may_ask(box: Machine, app: App) -> None:
    """A preflight has no credentials by rule (Fetch 4.8): it is answered here, and wakes no app."""
    before = app.connections
    status, head = ask(box, PREFLIGHT)
    assert status == 204
    assert head["access-control-allow-origin"] == "*"
    assert head["access-control-allow-methods"] == "POST"
    assert head["access-control-allow-headers"] == "authorization,content-type"
    assert "access-control-allow-credentials" not in head, "a browser's cookie is for its own origin"
    assert app.connections == before


@pytest.mark.parametrize("without", ["Origin", "Access-Control-Request-Method"])
def test_what_is_no_preflight_needs_a_token(box: Machine, app: App, without: str) -> None:
    """OPTIONS is a method as any other; and so is each other one with a preflight's headers."""
    lines = "".join(f"{line}\r\n" for line in PREFLIGHT.split("\r\n") if line and not line.startswith(without))
    assert ask(box, lines)[0] == 401
    assert ask(box, PREFLIGHT, method="GET")[0] == 401
    assert ask(box, PREFLIGHT, method="DELETE")[0] == 401
    assert app.seen == []


def test_a_preflight_of_an_app_without_a_guard_is_the_apps(box: Machine, apps: dict[str, App], app: App) -> None:
    """And one that has a token, though no browser sends such."""
    assert ask(box, PREFLIGHT, "c.apps.localhost")[0] == 200
    assert ask(box, PREFLIGHT + bearer(GOOD))[0] == 200
    assert (len(apps["c"].seen), len(app.seen)) == (1, 1)


def test_a_script_of_another_origin_may_read_our_refusals(box: Machine, app: App) -> None:
    """It would else see "failed to fetch" in place of 401, 403 and 503."""
    from flyted.plan.ingress import unavailable

    away = replace(state(box), unavailable={"c.apps.localhost": unavailable("stopped")})
    try:
        apply(box, away)
        found = [
            ask(box, "Origin: https://x.example\r\n", method="GET"),
            ask(box, "Origin: https://x.example\r\nAccept: application/json\r\n", method="GET"),
            ask(box, f"Origin: https://x.example\r\nCookie: {COOKIE}\r\n", method="POST"),
            ask(box, "Origin: https://x.example\r\n", "c.apps.localhost", "GET"),
        ]
    finally:
        apply(box, state(box))
    assert [status for status, _ in found] == [401, 401, 403, 503]
    assert {head["access-control-allow-origin"] for _, head in found} == {"*"}
    assert {head["x-content-type-options"] for _, head in found} == {"nosniff"}


def test_a_head_is_answered_with_no_body(box: Machine, app: App) -> None:
    """Ours neither."""
    assert ask(box, "", method="HEAD")[0] == 401


UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


def handshake(box: Machine, headers: str) -> int:
    """The status of the answer to a WebSocket's handshake."""
    request = f"GET /ws HTTP/1.1\r\nHost: a.apps.localhost\r\n{UPGRADE}{headers}\r\n"
    with box.connect() as connection:
        return parsed(exchange(connection, request.encode(), quiet=0.5))[0]


def test_a_websocket_needs_a_token_too(box: Machine, app: App) -> None:
    """Never a redirect to a page: a browser's script could not follow it."""
    assert handshake(box, BROWSER) == 401
    assert handshake(box, bearer(EXPIRED)) == 401
    assert app.seen == []
    assert handshake(box, bearer(GOOD)) == 101
    assert handshake(box, f"Cookie: {COOKIE}\r\nOrigin: https://a.apps.localhost\r\n") == 101


@pytest.mark.parametrize("origin", ["https://b.apps.localhost", "http://a.apps.localhost", "null", "https://evil"])
def test_another_site_cannot_use_a_browsers_cookie(box: Machine, app: App, origin: str) -> None:
    """Apps share a site, so SameSite= is no help: neither a form nor a WebSocket of another origin gets through."""
    lines = f"Cookie: {COOKIE}\r\nOrigin: {origin}\r\n"
    assert handshake(box, lines) == 403
    raw = f"POST / HTTP/1.1\r\nHost: a.apps.localhost\r\nConnection: close\r\nContent-Length: 0\r\n{lines}\r\n"
    assert parsed(box.send(raw.encode()))[0] == 403
    assert app.seen == []


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (f"Cookie: {COOKIE}\r\nOrigin: https://A.apps.localhost\r\n", 200),
        (f"Cookie: {COOKIE}\r\nSec-Fetch-Site: same-origin\r\n", 200),
        (f"Cookie: {COOKIE}\r\nSec-Fetch-Site: same-site\r\n", 403),
        (f"Cookie: {COOKIE}\r\nSec-Fetch-Site: cross-site\r\n", 403),
        (f"Cookie: {COOKIE}\r\n", 200),
        (bearer(GOOD) + "Origin: https://elsewhere.example\r\n", 200),
    ],
)
def test_a_form_of_the_app_itself_works(box: Machine, app: App, lines: str, status: int) -> None:
    """And a bearer token is nobody's by accident: it may come from anywhere."""
    raw = f"POST / HTTP/1.1\r\nHost: a.apps.localhost\r\nConnection: close\r\nContent-Length: 0\r\n{lines}\r\n"
    assert parsed(box.send(raw.encode()))[0] == status


def location(head: str) -> str:
    """Where an answer leads."""
    found = re.search(r"^location: (.*)$", head, re.MULTILINE | re.IGNORECASE)
    assert found is not None, head
    return found[1].strip()


@pytest.mark.parametrize(
    "path", ["/", "/docs?a=b&c=d", "/x#y%20", "//evil.example/", "/%0d%0aSet-Cookie:%20x", "/é?q='\""]
)
def test_a_browser_is_sent_to_the_login_and_told_where_from(box: Machine, app: App, path: str) -> None:
    """Always to our own host; the address is one parameter, whatever is in it, and its host is one that we serve."""
    raw = f"GET {path} HTTP/1.1\r\nHost: a.apps.localhost\r\nConnection: close\r\n{BROWSER}\r\n"
    status, head, _ = parsed(box.send(raw.encode()))
    if status == 400:  # HAProxy takes no such path
        return
    assert status == 302
    to = urlsplit(location(head))
    assert (to.scheme, to.netloc, to.path, to.fragment) == ("https", GATEWAY_HOST, "/login", "")
    assert parse_qs(to.query) == {"app": ["a.apps.localhost"], "next": [path]}
    assert not re.search(r"^set-cookie:", head, re.MULTILINE | re.IGNORECASE)
    assert app.seen == []


def test_the_login_is_where_the_browser_knows_this_machine(box: Machine, app: App) -> None:
    """At the port that it used for the app: another one than ours behind a forwarded port."""
    raw = f"GET /x HTTP/1.1\r\nHost: a.apps.localhost:19443\r\nConnection: close\r\n{BROWSER}\r\n"
    status, head, body = parsed(box.send(raw.encode()))
    assert (status, location(head).startswith(f"https://{GATEWAY_HOST}:19443/login?")) == (302, True)
    assert body == f"302: sign in at https://{GATEWAY_HOST}:19443/login\n"


def test_a_long_address_is_not_come_back_to(box: Machine, app: App) -> None:
    """It would not fit into the answer."""
    status, head, _ = box.get(path="/" + "%20" * LONGEST_NEXT, headers=BROWSER)
    assert status == 302
    assert parse_qs(urlsplit(location(head)).query)["next"] == ["/"]


def test_only_a_visit_is_sent_to_the_login(box: Machine, app: App) -> None:
    """What was posted would be lost, and a program that sent a wrong token is told so."""
    raw = f"POST / HTTP/1.1\r\nHost: a.apps.localhost\r\nConnection: close\r\nContent-Length: 0\r\n{BROWSER}\r\n"
    assert parsed(box.send(raw.encode()))[0] == 401
    assert box.get(headers=BROWSER + bearer(UNKNOWN))[0] == 401
    assert app.seen == []


def test_an_expired_cookie_leads_to_the_login(box: Machine, app: App) -> None:
    """As no cookie does."""
    assert box.get(headers=BROWSER + f"Cookie: __Host-flyted={EXPIRED}\r\n")[0] == 302


def test_the_gateway_answers_on_every_apps_host(box: Machine, apps: dict[str, App], app: App) -> None:
    """Below one path only, and without a token: a browser gets its cookie there. The app never hears of it."""
    for host in ("a", "c"):
        apps["gateway"].seen.clear()
        status, _, body = box.get("/.flyted/session?code=x&next=/", host=f"{host}.apps.localhost")
        assert (status, body) == (200, "gateway\n")
        assert fields(apps["gateway"].seen[0])["host"] == f"{host}.apps.localhost"
        assert apps[host].seen == []


@pytest.mark.parametrize(
    "path",
    ["/.flyted", "/.flytedx/", "/x/.flyted/", "/%2eflyted/", "//.flyted/", "/./.flyted/", "/.Flyted/", "/?/.flyted/"],
)
def test_no_other_path_is_open(box: Machine, app: App, path: str) -> None:
    """An app behind it might take it for one of its own."""
    assert box.get(path)[0] == 401
    assert app.seen == []


def test_the_gateway_reads_tokens_itself(box: Machine, apps: dict[str, App], app: App) -> None:
    """On its own host nothing is taken off; who is who is flyted's to say there."""
    headers = bearer(GOOD) + f"Cookie: {COOKIE}\r\nX-Flyte-User: root\r\n"
    assert box.get("/", host=GATEWAY_HOST, headers=headers)[2] == "gateway\n"
    seen = fields(apps["gateway"].seen[0])
    assert seen["authorization"] == f"Bearer {GOOD}"
    assert seen["cookie"] == COOKIE
    assert "x-flyte-user" not in seen


def test_every_answer_of_the_gateway_is_closed_to_scripts(box: Machine, apps: dict[str, App], app: App) -> None:
    """Redirects, texts and Flyte's API too; a page that says more about itself keeps that."""
    csp, own = "content-security-policy", "default-src 'none'; style-src 'self'"
    ok = "HTTP/1.1 303 See Other\r\nLocation: /\r\nContent-Length: 0\r\n"
    apps["gateway"].answers = {
        b"/plain": f"{ok}\r\n".encode(), b"/page": f"{ok}Content-Security-Policy: {own}\r\n\r\n".encode(),
    }  # fmt: skip
    heads = [fields(box.get(path, host=GATEWAY_HOST)[1].encode()) for path in ("/plain", "/page")]
    assert [head[csp] for head in heads] == ["default-src 'none'; frame-ancestors 'none'", own]
    assert [head["x-content-type-options"] for head in heads] == ["nosniff", "nosniff"]


def test_a_guarded_app_tells_strangers_nothing_of_why_it_is_away(box: Machine, apps: dict[str, App], app: App) -> None:
    """The reason of a failure is a line of its log: for whoever may see the app."""
    from flyted.plan.ingress import unavailable

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
        without = {d: v for d, v in grants().items() if d != text.digest(GOOD)}
        tell(box, without)
        assert parsed(exchange(connection, request, quiet=0.3))[0] == 401
    tell(box, grants())
    assert box.get(headers=bearer(GOOD))[0] == 200


def test_http2_is_guarded_alike(box: Machine, app: App) -> None:
    """Also where a cookie comes in pieces (RFC 9113 8.2.3), and the app sees none of it."""
    import socket

    context = box.tls()
    context.set_alpn_protocols(["h2"])

    def asked(*more: tuple[bytes, bytes]) -> int:
        plain = socket.create_connection(("127.0.0.1", box.listen.https_port), 10)
        with context.wrap_socket(plain, server_hostname="a.apps.localhost") as connection:
            http2.opened(connection)
            http2.sent(connection, 1, [*http2.request(), *more])
            http2.frames(connection, 3, {(http2.RST_STREAM, 1), (http2.GOAWAY, 0), (http2.DATA, 1)})
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
    box.ingress.tokens = lambda: {**grants(), text.digest(newest): f"{int(time.time()) + 60} * carol"}
    box.ingress.write_tokens()
    box.start()
    assert box.get()[0] == 401
    assert box.get(headers=bearer(GOOD))[0] == 200
    assert box.get(headers=bearer(newest))[0] == 200
    assert fields(app.seen[1])["x-flyte-user"] == "carol"
    tell(box, grants())
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
    tell(box, {**grants(), **many})
    assert time.monotonic() - begin < 60
    assert box.get(headers=bearer(GOOD))[0] == 200
    tell(box, grants())
