"""No path that the app's own key does not guard is reached, whatever way it is written. Against a real HAProxy."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyted.plan.ingress.paths import CLOSED as TEXT
from flyted.plan.ingress.paths import keys
from flyted.plan.ingress.state import IngressState
from tests.attacks import http2
from tests.host.haproxy import A, App, B, Machine, apply, exchange, machine, needs_haproxy, parsed

pytestmark = [pytest.mark.slow, needs_haproxy]

OPEN = ("/v1", "/health")


def state(box: Machine, paths: tuple[str, ...] = OPEN) -> IngressState:
    """App a is restricted, app b is not."""
    return IngressState(
        servers={f"{n}-r1-0": box.server(f"{n}-r1-0") for n in "ab"},
        hosts={A: "a-r1-0", B: "b-r1-0"},
        restricted={A: "a"},
        open_paths=keys(A, paths),
    )


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """An ingress with both apps."""
    with machine(tmp_path_factory.mktemp("paths")) as running:
        apply(running, state(running))
        yield running


@pytest.fixture(scope="module")
def apps(box: Machine) -> dict[str, App]:
    """The apps by name."""
    return {n: box.app(f"{n}-r1-0") for n in "ab"}


@pytest.fixture
def app(apps: dict[str, App]) -> App:
    """The restricted app, which has seen nothing yet."""
    apps["a"].seen.clear()
    return apps["a"]


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/chat/completions", "/v1/models?x=/../y", "/health", "/v1/a.b"])
def test_what_the_key_guards_is_let_through(box: Machine, app: App, path: str) -> None:
    """As it was sent."""
    assert box.get(path)[0] == 200
    assert app.seen[0].startswith(f"GET {path} HTTP/1.1\r\n".encode())


CLOSED = [
    "/", "/invocations", "/tokenize", "/pause", "/metrics", "/docs", "/version", "/v1x", "/v2", "/v", "/healthz",
    "/health_generate", "/V1/models", "/Health", "//v1/models", "/v1//models", "/v1//../invocations", "/./v1/x",
    "/v1/./x", "/v1/../invocations", "/v1/..", "/v1/.", "/v1/.../x", "/v1/..;/invocations", "/v1;/../invocations",
    "/v1/%2e%2e/invocations", "/v1/%2E%2E/invocations", "/v1/.%2e/invocations", "/v1%2f..%2finvocations",
    "/v1/..%2finvocations", "/v1/%252e%252e/invocations", "/v1/..%5cinvocations", "/v1/..\\invocations",
    "/%76%31/models", "/v1%00", "/v1/%00/../invocations", "/v1/%c0%ae%c0%ae/invocations", "/invocations?/v1/",
    "/invocations/v1/", "/v1.", "/v1./", "/health.", "/.flyted", "/invocations;/v1/", "/v1/x%0a",
]  # fmt: skip


@pytest.mark.parametrize("path", CLOSED)
def test_what_it_does_not_guard_is_closed(box: Machine, app: App, path: str) -> None:
    """403, and no connection to the app: it is not even woken."""
    before = app.connections
    status, head, body = box.get(path)
    assert status == 403, head
    assert body == f"403: {TEXT}\n"
    assert "cache-control: no-store" in head
    assert app.connections == before


@pytest.mark.parametrize("path", CLOSED)
def test_neither_is_it_over_http2(box: Machine, app: App, path: str) -> None:
    """The same rules for :path, where nothing has parsed it before."""
    with http2.connected(box) as connection:
        http2.sent(connection, 1, http2.request(path.encode()))
        http2.frames(connection, 20, {(http2.HEADERS, 1), (http2.RST_STREAM, 1), (http2.GOAWAY, 0)})
    assert app.seen == []


@pytest.mark.parametrize(
    "line",
    [
        "GET https://a.apps.localhost/invocations HTTP/1.1", "GET https://a.apps.localhost HTTP/1.1",
        "GET https://a.apps.localhost//v1/../invocations HTTP/1.1", "OPTIONS * HTTP/1.1",
        "POST /invocations HTTP/1.1", "HEAD /invocations HTTP/1.1", "GET invocations HTTP/1.1",
        "GET /invocations#/v1/ HTTP/1.1", "GET /v1/#/../../invocations HTTP/1.1",
    ],
)  # fmt: skip
def test_no_form_of_a_request_gets_around_it(box: Machine, app: App, line: str) -> None:
    """An absolute address, an asterisk, another method, a fragment."""
    answer = box.send(f"{line}\r\nHost: {A}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    assert 400 <= parsed(answer)[0] < 500
    assert app.seen == []


def test_neither_does_an_upgrade_or_a_second_request(box: Machine, app: App) -> None:
    """Each request is looked at, the second one of a connection too."""
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
    assert box.get("/invocations", headers=upgrade)[0] == 403
    two = f"GET /v1/a HTTP/1.1\r\nHost: {A}\r\n\r\nGET /tokenize HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n\r\n"
    with box.connect() as connection:
        answer = exchange(connection, two.encode())
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"403"]
    assert [seen.split(b" ")[1] for seen in app.seen] == [b"/v1/a"]


def test_a_program_that_speaks_json_is_answered_in_json(box: Machine, app: App) -> None:
    """The same refusal, readable."""
    status, head, body = box.get("/metrics", headers="Accept: application/json\r\n")
    assert (status, body) == (403, f'{{"error":"{TEXT}"}}\n')
    assert "content-type: application/json" in head
    assert app.seen == []


def test_an_app_without_a_fence_is_as_open_as_before(box: Machine, apps: dict[str, App]) -> None:
    """And the open paths of one host are no other's."""
    for path in ("/invocations", "/v1/models", "/a%2eb", "/"):
        assert box.get(path, host=B)[0] == 200


def test_the_fence_moves_without_a_restart(box: Machine, app: App) -> None:
    """A path is opened, another closed, all are opened, and it is back."""
    apply(box, state(box, ("/health", "/metrics")))
    assert [box.get(path)[0] for path in ("/health", "/metrics", "/v1/models")] == [200, 200, 403]
    apply(box, replace(state(box), restricted={}, open_paths={}))
    assert [box.get(path)[0] for path in ("/invocations", "/v1/models")] == [200, 200]
    apply(box, state(box))
    assert [box.get(path)[0] for path in ("/metrics", "/v1/models")] == [403, 200]


PIECES = ["v1", "health", "invocations", "..", ".", "", "%2e%2e", "%2f", "%5c", ";", "V1", "a.b", "*", "~", "%", "\\"]


@settings(
    max_examples=settings().max_examples // 4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.sampled_from(PIECES), max_size=6), st.sampled_from(["", "?q=/v1/", "/"]))
def test_no_path_that_is_let_through_can_be_read_as_another(
    box: Machine, app: App, pieces: list[str], end: str
) -> None:
    """However often it is decoded, and with its dots and slashes taken away, it lies below an open one."""
    app.seen.clear()
    box.get("/" + "/".join(pieces) + end)
    for request in app.seen:
        path = request.split(b" ")[1].decode().partition("?")[0]
        for _ in range(3):
            parts: list[str] = []
            for part in re.split(r"[/\\]", path):
                if part == "..":
                    parts = parts[:-1]
                elif part not in ("", "."):
                    parts.append(part)
            assert parts[:1] in (["v1"], ["health"]), request
            path = urllib.parse.unquote(path)
