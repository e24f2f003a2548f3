"""Calls between apps: the source address says who calls, and nothing that a caller sends. Against a real HAProxy.

Apps have loopback addresses here; that nobody can send from another's is for tests/machine/test_app_calls.py.
"""

from __future__ import annotations

import json
import re

import pytest

from flyted.plan.ingress.state import IngressState, Unavailable
from tests.attacks.test_ingress_target import NO_NAME, NO_PORT_BEHIND
from tests.host.haproxy import App, Machine, apply, needs_haproxy, parsed

pytestmark = [pytest.mark.slow, needs_haproxy]

UI, BATCH, THIRD = "127.0.0.11", "127.0.0.12", "127.0.0.13"
LLM = "llm.apps.internal"
HOSTS = ("llm", "other", "open")
TOKEN = "flyted_" + "t" * 43


@pytest.fixture(scope="module")
def llm(box: Machine) -> App:
    """An app that requires a token; ui and batch may call it, batch also apps that are stopped, gone or restricted."""
    made = box.app("llm-r1-0")
    other = box.app("other-r1-0")
    assert other.name
    names = ("llm", "gone", "stopped", "open", "aliased")
    apply(box, IngressState(
        servers={name: box.server(name) for name in ("llm-r1-0", "other-r1-0")},
        hosts={f"{name}.apps.localhost": f"{'other' if name == 'other' else 'llm'}-r1-0" for name in HOSTS},
        guarded={"llm.apps.localhost": "llm"},
        restricted={"open.apps.localhost": "open"}, open_paths={"open.apps.localhost/v1/": "open"},
        unavailable={"stopped.apps.localhost": Unavailable("it is stopped", 60)},
        names={"public.example.org": "llm.apps.localhost", "aliased.apps.internal": "llm.apps.localhost"},
        callers={UI: "ui", BATCH: "shop/prod/batch"},
        calls={f"{UI}/llm": "llm.apps.localhost", **{f"{BATCH}/{name}": f"{name}.apps.localhost" for name in names}},
    ))  # fmt: skip
    return made


@pytest.fixture
def app(llm: App) -> App:
    """The app, which has seen nothing yet."""
    llm.seen.clear()
    return llm


def ask(box: Machine, source: str, host: str = LLM, headers: str = "", path: str = "/") -> tuple[int, str, str]:
    """(status, head, body)."""
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"
    return parsed(box.call(head.encode(), source))


def sent(app: App) -> list[str]:
    """The lines of the only request that the app has got."""
    (data,) = app.seen
    return data.decode().split("\r\n\r\n")[0].split("\r\n")


@pytest.mark.parametrize(("source", "name"), [(UI, "ui"), (BATCH, "shop/prod/batch")])
def test_a_caller_needs_no_token_and_is_named(box: Machine, app: App, source: str, name: str) -> None:
    """Although the app requires one of everybody else, who asks at another port."""
    assert ask(box, source)[::2] == (200, "llm-r1-0\n")
    lines = sent(app)
    assert [line for line in lines if line.lower().startswith("x-f")] == [
        f"x-forwarded-for: {source}", f"x-forwarded-host: {LLM}", "x-forwarded-proto: http", f"x-flyte-app: {name}",
    ]  # fmt: skip
    assert f"host: {LLM}" in lines
    assert box.get(host="llm.apps.localhost")[0] == 401


@pytest.mark.parametrize(
    "header",
    [
        "X-Flyte-App: ui", "x-flyte-app: ui\r\nX-Flyte-App: ui", "X-FLYTE-User: root", "X_Flyte_App: ui",
        "X-Flyte_App: ui", "X-Flyte-Authorization: Bearer x", "X-Forwarded-For: 127.0.0.11",
        "Forwarded: for=127.0.0.11", "X-Real-IP: 1.2.3.4", "X-Forwarded-Host: other.apps.internal",
        "Connection: X-Flyte-App",
    ],
)  # fmt: skip
def test_nothing_that_a_caller_says_of_itself_counts(box: Machine, app: App, header: str) -> None:
    """Neither to be let in, nor to be somebody else there."""
    assert ask(box, THIRD, headers=f"{header}\r\n")[0] == 403
    assert app.seen == []
    assert ask(box, BATCH, headers=f"{header}\r\n")[0] == 200
    lines = sent(app)
    assert [line for line in lines if re.match("x.(flyte|real)|forwarded", line, re.IGNORECASE)] == [
        "x-flyte-app: shop/prod/batch"
    ]
    assert f"x-forwarded-for: {BATCH}" in lines


def test_a_visitor_cannot_be_an_app(box: Machine, app: App) -> None:
    """At the ports for everybody the header is removed."""
    assert box.get("/v1/x", host="open.apps.localhost", headers="X-Flyte-App: ui\r\n")[0] == 200
    assert not any("flyte" in line.lower() for line in sent(app))


@pytest.mark.parametrize(
    ("source", "host", "status", "words"),
    [
        (THIRD, LLM, 403, "this app may not call app 'llm': name it in depends_on"),
        (UI, "other.apps.internal", 403, "this app may not call app 'other'"),
        (UI, "gone.apps.internal", 403, "flytectl serve --may-call gone"),
        (BATCH, "gone.apps.internal", 404, "app 'gone' is not served"),
        (BATCH, "stopped.apps.internal", 503, "it is stopped"),
        (BATCH, "other.apps.localhost", 421, "http://NAME.apps.internal"),
        (BATCH, "llm.apps.localhost", 421, "http://NAME.apps.internal"),
        (BATCH, "public.example.org", 421, "http://NAME.apps.internal"),
        (BATCH, "flyted.localhost", 421, "http://NAME.apps.internal"),
        (BATCH, "x.llm.apps.internal", 421, "http://NAME.apps.internal"),
        (BATCH, "apps.internal", 421, "http://NAME.apps.internal"),
        (BATCH, "[::1]", 421, "http://NAME.apps.internal"),
        (BATCH, "llm.apps.internal.example.org", 421, "http://NAME.apps.internal"),
    ],
)
def test_what_is_not_to_be_had_is_said(
    box: Machine, app: App, source: str, host: str, status: int, words: str
) -> None:
    """As text and as JSON, with what to do about it; with a body too, which is read first."""
    found, _head, body = ask(box, source, host)
    assert (found, body.startswith(f"{status}: ")) == (status, True)
    assert words in body
    found, head, body = ask(box, source, host, "Accept: application/json\r\n")
    assert (found, "content-type: application/json" in head.lower()) == (status, True)
    assert words in json.loads(body)["error"]
    post = f"POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n" + 200_000 * "x"
    assert parsed(box.call(post.encode(), source))[0] == status
    assert app.seen == []


@pytest.mark.parametrize(
    "path", ["/.flyted/login", "/login", "/upload/x", "/flyteidl2.app.AppService/List", "/ca.pem"]
)
def test_the_api_and_the_pages_are_not_there(box: Machine, app: App, path: str) -> None:
    """Under an app's name such a path is the app's own."""
    assert ask(box, BATCH, "flyted.localhost", path=path)[0] == 421
    assert app.seen == []
    assert ask(box, BATCH, LLM, path=path)[::2] == (200, "llm-r1-0\n")


@pytest.mark.parametrize("end", NO_PORT_BEHIND)
def test_a_host_that_can_be_read_in_two_ways_is_refused(box: Machine, app: App, end: str) -> None:
    """As at the ports for everybody."""
    raw = f"GET / HTTP/1.1\r\nHost: {LLM}{end}\r\nConnection: close\r\n\r\n".encode()
    assert parsed(box.call(raw, BATCH))[0] in (400, 421)
    assert app.seen == []


@pytest.mark.parametrize("host", [*NO_NAME, f"x@{LLM}", f"{LLM}\r\nHost: other.apps.internal"])
def test_a_host_that_is_no_name_is_refused(box: Machine, app: App, host: str) -> None:
    """And two of them."""
    raw = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    assert parsed(box.call(raw, BATCH))[0] in (400, 421)
    assert app.seen == []


@pytest.mark.parametrize("host", ["LLM.Apps.Internal", f"{LLM}.", f"{LLM}:80", f"{LLM}:8080"])
def test_other_ways_to_write_a_name(box: Machine, app: App, host: str) -> None:
    """They mean the same (RFC 9110 4.2.3)."""
    assert ask(box, UI, host)[0] == 200
    assert len(app.seen) == 1


def test_an_absolute_address_is_no_other_host(box: Machine, app: App) -> None:
    """The Host of the request is what counts, and both have to be the same."""
    raw = f"GET http://other.apps.internal/ HTTP/1.1\r\nHost: {LLM}\r\nConnection: close\r\n\r\n".encode()
    assert parsed(box.call(raw, UI))[0] in (400, 403)
    assert app.seen == []
    raw = f"GET http://{LLM}/x?y HTTP/1.1\r\nHost: {LLM}\r\nConnection: close\r\n\r\n".encode()
    assert parsed(box.call(raw, UI))[0] == 200
    assert sent(app)[0] == "GET /x?y HTTP/1.1"


@pytest.mark.parametrize(
    "raw",
    [
        b"POST / HTTP/1.1\r\n@Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\n@Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\n@Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n@X-A: b\r\n X-Flyte-App: root\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"CONNECT other.apps.internal:80 HTTP/1.1\r\nHost: other.apps.internal:80\r\n\r\n",
        b"TRACE / HTTP/1.1\r\n@\r\n",
    ],
)
def test_smuggling(box: Machine, app: App, raw: bytes) -> None:
    """Refused as at the ports for everybody, before any app."""
    assert parsed(box.call(raw.replace(b"@", b"Host: llm.apps.internal\r\n"), BATCH, 1))[0] in (400, 405, 422)
    assert app.seen == []


def test_a_second_request_in_a_body_is_no_request(box: Machine, app: App) -> None:
    """Of two requests in one connection, the second is judged by itself."""
    inner = b"GET /inner HTTP/1.1\r\nHost: llm.apps.internal\r\nX-Flyte-App: root\r\n\r\n"
    head = b"POST /outer HTTP/1.1\r\nHost: llm.apps.internal\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    assert parsed(box.call(head % len(inner) + inner, UI))[0] == 200
    assert [line.split()[1] for line in (data.split(b"\r\n")[0] for data in app.seen)] == [b"/outer"]
    app.seen.clear()
    first = b"GET /1 HTTP/1.1\r\nHost: llm.apps.internal\r\n\r\n"
    answers = box.call(first + b"GET /2 HTTP/1.1\r\nHost: other.apps.internal\r\nConnection: close\r\n\r\n", UI)
    assert (answers.count(b"HTTP/1.1 200"), answers.count(b"HTTP/1.1 403")) == (1, 1)
    assert len(app.seen) == 1


def test_no_protocol_is_spoken_past_the_rules(box: Machine, app: App) -> None:
    """An upgrade to h2c is not passed on; WebSocket is."""
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    assert ask(box, UI, headers=upgrade)[0] == 200
    assert not any("upgrade" in line.lower() or "http2" in line.lower() for line in sent(app))
    app.seen.clear()
    raw = (
        f"GET / HTTP/1.1\r\nHost: {LLM}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert b"101 Switching" in box.call(raw.encode(), UI, 1)
    assert parsed(box.call(raw.encode(), THIRD, 1))[0] == 403


def test_a_token_of_flyted_reaches_no_app(box: Machine, app: App) -> None:
    """One that a visitor has sent to the caller, and the caller passes on; a key of the app's own does."""
    cookie = f"Cookie: a=b; __Host-flyted={TOKEN}; c=d\r\n"
    assert ask(box, UI, headers=f"Authorization: Bearer {TOKEN}\r\n{cookie}")[0] == 200
    text = "\n".join(sent(app))
    assert "flyted_" not in text
    assert "authorization" not in text
    assert "cookie: a=b; c=d" in text
    app.seen.clear()
    assert ask(box, UI, headers="Authorization: Bearer sk-own\r\n")[0] == 200
    assert "authorization: Bearer sk-own" in sent(app)


def test_paths_that_the_app_does_not_protect_stay_closed(box: Machine, app: App) -> None:
    """vLLM's development endpoints, say: who may call an app gets what its visitors get."""
    assert ask(box, BATCH, "open.apps.internal", path="/v1/models")[0] == 200
    app.seen.clear()
    for path in ("/metrics", "/v1/../metrics", "//v1/x", "/v1/%2e%2e/metrics"):
        assert ask(box, BATCH, "open.apps.internal", path=path)[0] == 403
    assert app.seen == []


def test_an_app_with_an_older_id_is_found(box: Machine, app: App) -> None:
    """By its name, as all others."""
    assert ask(box, BATCH, "aliased.apps.internal")[0] == 200
    assert len(app.seen) == 1


def test_a_right_that_is_taken_is_gone_at_once(box: Machine, llm: App) -> None:
    """Also for a connection that is kept; and an address that another app gets has only what that may call."""
    server = {"llm-r1-0": box.server("llm-r1-0"), "other-r1-0": box.server("other-r1-0")}
    hosts = {"llm.apps.localhost": "llm-r1-0", "other.apps.localhost": "other-r1-0"}
    apply(
        box,
        IngressState(
            servers=server, hosts=hosts, callers={UI: "other"}, calls={f"{UI}/other": "other.apps.localhost"}
        ),
    )
    llm.seen.clear()
    assert ask(box, UI)[0] == 403
    assert ask(box, UI, "other.apps.internal")[0] == 200
    apply(box, IngressState(servers=server, hosts=hosts))
    assert ask(box, UI, "other.apps.internal")[0] == 403
    assert llm.seen == []
