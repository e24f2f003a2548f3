"""What a browser does by itself, and what a script or a page of another site has it do. Against a real HAProxy.

Preflights, WebSockets, forms, the way to the login and back.
"""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from flyted.contract.names import GATEWAY_HOST
from flyted.plan.ingress.auth import LONGEST_NEXT
from flyted.plan.ingress.state import unavailable
from tests.attacks.guard.sent import BROWSER, COOKIE, EXPIRED, GOOD, UNKNOWN, bearer, fields, state
from tests.host.haproxy import App, Machine, apply, exchange, needs_haproxy, parsed

pytestmark = [pytest.mark.slow, needs_haproxy]


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
