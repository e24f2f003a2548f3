"""Paths that clients ask for by themselves, with a real HAProxy: who answers them, and what they count for."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from flyted.host.ingress import Applied
from flyted.plan.idle import Traffic
from flyted.plan.ingress.clients import ClientRules
from flyted.plan.ingress.no_wake import parse_counts
from flyted.plan.ingress.state import IngressState
from tests.host.haproxy import A, B, Machine, apply, needs_haproxy, one, parsed, until
from tests.host.test_ingress_pools import pool

pytestmark = [pytest.mark.slow, needs_haproxy]

ICON = "/favicon.ico"


def awake(state: IngressState) -> IngressState:
    """The same with all apps awake."""
    return replace(state, awake=dict.fromkeys(state.hosts.values(), "yes"))


def traffic(box: Machine, name: str = "a-r1-0") -> Traffic:
    """The counters of a server at which nothing is in flight."""
    until(lambda: not asyncio.run(box.ingress.stats([name]))[name].busy)
    return asyncio.run(box.ingress.stats([name]))[name]


def ask(box: Machine, method: str, path: str) -> tuple[int, str, str]:
    """One request on a connection of its own."""
    return parsed(box.send(f"{method} {path} HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n\r\n".encode()))


def counts(box: Machine) -> dict[str, int]:
    """HAProxy's map of answers that do not count."""
    return parse_counts(asyncio.run(box.ingress._haproxy.ask(f"show map {box.files}/uncounted.map")))


@pytest.mark.parametrize("path", [ICON, f"{ICON}?v=2", "/robots.txt", "/apple-touch-icon.png",
                                  "/apple-touch-icon-120x120-precomposed.png", f"https://{A}{ICON}"])  # fmt: skip
def test_what_clients_ask_for_by_themselves_does_not_reach_an_app_that_sleeps(box, path):
    """Neither its socket nor its counters; they may come again later, and the log does not fill with them."""
    app = box.app("a-r1-0")
    apply(box, one(box))
    for method in ("GET", "HEAD"):
        status, head, _body = ask(box, method, path)
        assert (status, "retry-after: 60" in head.lower()) == (503, True)
    assert '503: "a" is not awake' in box.get(ICON)[2]
    assert (app.connections, traffic(box).started) == (0, 0)
    assert "favicon" not in box.log.read_text()
    assert "robots" not in box.log.read_text()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/favicon.icon"), ("GET", "/x/favicon.ico"), ("GET", "/apple-touch-icon.png/x"),
     ("POST", ICON), ("OPTIONS", ICON), ("GET", "/apple-touch-icons"), ("GET", "//favicon.ico")],
)  # fmt: skip
def test_all_else_reaches_it(box, method, path):
    """Other paths, and other methods, which nobody sends by himself."""
    app = box.app("a-r1-0")
    apply(box, one(box))
    assert ask(box, method, path)[0] == 200
    assert app.connections == 1


def test_an_app_that_is_awake_gets_them_and_is_as_idle_as_before(box):
    """They are among its requests, and apart from those that count; a new one that counts shows."""
    box.app("a-r1-0")
    apply(box, awake(one(box)))
    assert box.get()[0] == 200
    first = traffic(box)
    assert (first.started, first.counting) == (1, 1)
    assert [ask(box, method, path)[0] for method in ("GET", "HEAD") for path in (ICON, "/robots.txt")] == [200] * 4
    assert (traffic(box).started, traffic(box).counting) == (5, 1)
    assert [ask(box, "POST", ICON)[0], box.get()[0]] == [200, 200]
    assert (traffic(box).started, traffic(box).counting) == (7, 3)


def test_requests_over_kept_connections_count_no_more_than_others(box):
    """Twin and server are counted together."""
    box.app("a-r1-0")
    state = awake(one(box))
    apply(box, replace(state, servers={n: replace(s, kept=True) for n, s in state.servers.items()}))
    assert [box.get(path)[0] for path in ("/", ICON, ICON)] == [200] * 3
    assert (traffic(box).started, traffic(box).counting) == (3, 1)


def test_what_the_app_did_not_answer_counts(box):
    """Nobody knows how long it took (idle.py): the count is of answers that the app has begun."""
    app = box.app("a-r1-0")
    app.answers[ICON.encode()] = b"x"
    apply(box, awake(one(box)))
    assert box.get(ICON)[0] == 502
    assert (traffic(box).started, traffic(box).counting) == (1, 1)


def test_a_pool_is_awake_as_a_whole_and_counts_by_server(box):
    """The one that answered has it."""
    for name in ("a-r1-0", "a-r1-1"):
        box.app(name)
    apply(box, pool(box, "a-r1-0", rests=("a-r1-1",)))
    assert box.get(ICON)[0] == 503
    apply(box, awake(pool(box, "a-r1-1", rests=("a-r1-0",))))
    assert box.get(ICON)[::2] == (200, "a-r1-1\n")
    assert [traffic(box, name).uncounted for name in ("a-r1-0", "a-r1-1")] == [0, 1]


def test_an_app_that_sleeps_again_is_left_alone_again(box):
    """And a restarted HAProxy knows who is awake; it counts anew."""
    box.app("a-r1-0")
    box.app("b-r1-0")
    first, second = awake(one(box)), one(box, "b-r1-0", B)
    both = replace(
        first, servers={**first.servers, **second.servers}, hosts={**first.hosts, **second.hosts}
    )  # fmt: skip
    apply(box, both)
    assert (box.get(ICON)[0], box.get(ICON, B)[0]) == (200, 503)
    box.stop()
    box.start()
    assert (box.get(ICON)[0], box.get(ICON, B)[0]) == (200, 503)
    assert counts(box) == {"a-r1-0": 1}
    assert apply(box, both) == Applied()
    apply(box, replace(both, awake={"b-r1-0": "yes"}))
    assert (box.get(ICON)[0], box.get(ICON, B)[0]) == (503, 200)


def test_a_server_that_goes_takes_its_count_along(box):
    """A machine that deploys for years does not fill HAProxy's memory; most servers have none."""
    box.app("a-r1-0")
    box.app("b-r1-0")
    apply(box, awake(one(box)))
    assert box.get(ICON)[0] == 200
    until(lambda: not traffic(box).busy)
    assert counts(box) == {"a-r1-0": 1}
    apply(box, awake(one(box, "b-r1-0")))
    assert counts(box) == {}
    apply(box, IngressState())
    assert asyncio.run(box.ingress.read()).state == IngressState()


def test_what_is_refused_reaches_no_app_either(box):
    """No token, too many requests, a closed path, a body that is too long: each answer is the ingress's own."""
    app = box.app("a-r1-0")
    rules = ClientRules(body_bytes=10, no_wake_paths=("/health",))
    box.listen = replace(box.listen, clients=rules)
    box.ingress.write(IngressState(), box.listen)
    box.stop()
    box.start()
    state = one(box)
    apply(box, replace(state, guarded={A: "a"}))
    assert box.get()[0] == 401
    assert box.get("/health")[0] == 401, "strangers do not learn whether it is awake"
    apply(box, replace(state, restricted={A: "a"}))
    assert box.get()[0] == 403
    apply(box, state)
    assert parsed(box.send(f"POST / HTTP/1.1\r\nHost: {A}\r\nContent-Length: 11\r\n\r\n".encode()))[0] == 413
    assert box.get("/health")[0] == 503
    apply(box, replace(state, limits={A: "1 -"}))
    assert (app.connections, box.get()[0], box.get()[0], app.connections) == (0, 200, 429, 1)
    assert box.get("/health")[0] == 429


def test_with_no_such_paths_every_request_wakes(box):
    """The operator wants it so; HAProxy reads the maps in any case."""
    box.app("a-r1-0")
    box.listen = replace(box.listen, clients=ClientRules(no_wake_paths=()))
    box.ingress.write(IngressState(), box.listen)
    box.stop()
    box.start()
    apply(box, awake(one(box)))
    apply(box, one(box))
    assert box.get(ICON)[0] == 200
    assert traffic(box).counting == 1
