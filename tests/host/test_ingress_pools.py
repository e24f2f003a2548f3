"""Pools of replicas with a real HAProxy: who gets which request, and that no change of a pool loses one."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from flyted.plan.ingress.pools import COOKIE, POOLS
from flyted.plan.ingress.state import IngressState
from tests.host.haproxy import A, B, Machine, apply, exchange, needs_haproxy, one, parsed, until

pytestmark = [pytest.mark.slow, needs_haproxy]

THREE = ("a-r1-0", "a-r1-1", "a-r1-2")


def pool(box: Machine, *names: str, rests: tuple[str, ...] = (), number: int = 7, host: str = A) -> IngressState:
    """One app whose servers are in a pool; those that rest get no new requests."""
    servers = {n: replace(box.server(n), pool=f"pool-{number}", rests=n in rests) for n in (*names, *rests)}
    return IngressState(servers=servers, hosts={host: f"pool-{number}"})


def both(one: IngressState, other: IngressState) -> IngressState:
    """Two apps."""
    return IngressState(servers={**one.servers, **other.servers}, hosts={**one.hosts, **other.hosts})


def reached(box: Machine, count: int, host: str = A, headers: str = "") -> Counter[str]:
    """Which servers answer, one request after the other."""
    return Counter(box.get(host=host, headers=headers)[2].strip() for _ in range(count))


def test_requests_are_spread_evenly(box):
    """Over all that are in the pool, and to no other app's."""
    for name in (*THREE, "b-r1-0", "b-r1-1"):
        box.app(name)
    apply(box, both(pool(box, *THREE), pool(box, "b-r1-0", "b-r1-1", number=POOLS - 1, host=B)))
    assert reached(box, 12) == dict.fromkeys(THREE, 4)
    assert reached(box, 4, host=B) == {"b-r1-0": 2, "b-r1-1": 2}


def test_the_one_with_the_fewest_requests_gets_the_next(box):
    """Two of three are busy: all others go to the third."""
    apps = [box.app(name) for name in THREE]
    apply(box, pool(box, *THREE))
    held = []
    for _ in range(2):
        connection = box.connect()
        connection.sendall(f"GET /hold HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n\r\n".encode())
        held.append(connection)
        until(lambda: sum(bool(app.seen) for app in apps) == len(held))
    idle = next(app for app in apps if not app.seen)
    assert reached(box, 6) == {idle.name: 6}
    traffic = asyncio.run(box.ingress.stats())
    assert sorted(each.in_flight for each in traffic.values()) == [0, 1, 1]
    for app in apps:
        app.release.set()
    for connection in held:
        assert parsed(exchange(connection, b""))[0] == 200
        connection.close()


def test_a_replica_that_rests_ends_its_requests_and_gets_no_others(box):
    """It is deleted only when nothing runs there; and it may be enabled again before."""
    first, second = box.app(THREE[0]), box.app(THREE[1])
    apply(box, pool(box, THREE[0]))
    with box.connect() as held:
        held.sendall(f"GET /hold HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n\r\n".encode())
        until(lambda: first.seen)
        apply(box, pool(box, THREE[1], rests=(THREE[0],)))
        assert reached(box, 4) == {THREE[1]: 4}
        assert apply(box, pool(box, THREE[1])).draining == {THREE[0]}
        assert reached(box, 2) == {THREE[1]: 2}
        apply(box, pool(box, *THREE[:2]))
        assert reached(box, 2)[THREE[0]] <= 1, "it has a request more than the other"
        apply(box, pool(box, THREE[1], rests=(THREE[0],)))
        first.release.set()
        second.release.set()
        assert parsed(exchange(held, b""))[::2] == (200, f"{THREE[0]}\n")
    until(lambda: not asyncio.run(box.ingress.stats())[THREE[0]].busy)
    assert apply(box, pool(box, THREE[1])).draining == frozenset()
    assert set(asyncio.run(box.ingress.stats())) == {THREE[1]}


def test_a_replica_whose_socket_has_gone_loses_nothing(box):
    """HAProxy tries another one at once: a crash of one is no outage."""
    gone = box.app(THREE[0])
    box.app(THREE[1])
    apply(box, pool(box, *THREE[:2]))
    gone.close()
    gone.path.unlink()
    began = time.monotonic()
    assert reached(box, 6) == {THREE[1]: 6}
    assert time.monotonic() - began < 5


def test_a_pool_is_served_the_same_after_a_restart(box):
    """Its servers are in the file, and those that rest still rest."""
    for name in THREE:
        box.app(name)
    wanted = replace(
        pool(box, *THREE[:2], rests=(THREE[2],)), timeouts_ms={"pool-7": 60_000}, sticky={"pool-7": "yes"}
    )
    apply(box, wanted)
    before = asyncio.run(box.ingress.read()).state
    box.stop()
    box.start()
    assert reached(box, 4) == {THREE[0]: 2, THREE[1]: 2}
    assert asyncio.run(box.ingress.read()).state == before
    box.ingress.forget()
    assert apply(box, wanted).draining == frozenset()
    assert asyncio.run(box.ingress.read()).state == before


def test_an_app_moves_between_its_own_server_and_a_pool(box):
    """A revision may have several replicas, and the next one not; another app gets the pool then."""
    for name in ("a-r1-0", "a-r2-0", "b-r1-0"):
        box.app(name)
    apply(box, one(box, "a-r1-0"))
    apply(box, pool(box, "a-r2-0"))
    assert reached(box, 2) == {"a-r2-0": 2}
    apply(box, both(one(box, "a-r1-0"), pool(box, "b-r1-0", host=B)))
    assert (reached(box, 2), reached(box, 2, host=B)) == ({"a-r1-0": 2}, {"b-r1-0": 2})
    assert {each.pool for each in asyncio.run(box.ingress.read()).state.servers.values()} == {"", "pool-7"}


def test_the_time_limit_and_the_words_of_a_failure_are_the_apps(box):
    """As those of an app of one replica; a cookie of a pool's app is for its own host."""
    app = box.app(THREE[0])
    apply(box, replace(pool(box, THREE[0]), timeouts_ms={"pool-7": 300}))
    app.answers[b"/cookie"] = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: x=1; Domain=apps.localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    assert "x=1\r\n" in box.get("/cookie")[1] + "\r\n"
    status, _, body = box.get("/hold")
    assert (status, body.partition(";")[0]) == (504, '504: "a" did not answer within 0 s')
    app.release.set()
    assert '"a" ' in box.get("/silent")[2]
    app.close()
    app.path.unlink()
    assert box.get()[::2] == (503, '503: "a" cannot serve now; its operator can see why: flytectl app get a\n')


def cookie_of(head: str) -> str:
    """The value of the ingress's cookie, which must have all of its attributes; "" if none is set."""
    found = re.findall(rf"(?i)^set-cookie: {COOKIE}=([^;]*)(.*)$", head, re.MULTILINE)
    assert {rest.strip() for _, rest in found} <= {"; Path=/; HttpOnly; Secure; SameSite=Lax"}
    return found[0][0] if found else ""


def test_a_browser_of_a_sticky_app_comes_back_to_its_replica(box):
    """By a cookie, which is set once, and which the app does not see; others of the request it does."""
    apps = {name: box.app(name) for name in THREE}
    apply(box, replace(pool(box, *THREE), sticky={"pool-7": "yes"}))
    for _ in range(3):
        _, head, body = box.get()
        own = cookie_of(head)
        assert own == body.strip()
        for _ in range(3):
            _, head, body = box.get(headers=f"Cookie: x=1; {COOKIE}={own}; y=2\r\n")
            assert (body.strip(), cookie_of(head)) == (own, "")
            assert b"\r\ncookie: x=1; y=2\r\n" in apps[own].seen[-1].lower()
        box.get(headers=f"Cookie: {COOKIE}={own}\r\n")
        assert b"\r\ncookie:" not in apps[own].seen[-1].lower()
    apply(box, pool(box, *THREE))
    assert cookie_of(box.get()[1]) == ""


def test_a_cookie_of_a_replica_that_is_gone_or_rests_opens_nothing_else(box):
    """The browser gets another replica, and its cookie; never another app's."""
    apps = {name: box.app(name) for name in (*THREE, "b-r1-0")}
    sticky = {"pool-7": "yes"}
    wanted = both(replace(pool(box, *THREE[:2], rests=(THREE[2],)), sticky=sticky), one(box, "b-r1-0", B))
    apply(box, replace(wanted, sticky=sticky))
    for other in (THREE[2], "a-r1-9", "b-r1-0", "gateway", "..", "a" * 300, "%[src]", ""):
        _, head, body = box.get(headers=f"Cookie: {COOKIE}={other}\r\n")
        assert body.strip() in THREE[:2], other
        assert cookie_of(head) == body.strip()
        assert b"\r\ncookie:" not in apps[body.strip()].seen[-1].lower(), "no app has to know it"


def test_a_websocket_of_a_sticky_app_goes_to_its_replica(box):
    """Streamlit's page sets the cookie, its socket shows it."""
    apps = {name: box.app(name) for name in THREE}
    apply(box, replace(pool(box, *THREE), sticky={"pool-7": "yes"}))
    ask = "Upgrade: websocket\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n"
    for name in THREE:
        with box.connect() as connection:
            head = f"GET /ws HTTP/1.1\r\nHost: {A}\r\nConnection: Upgrade\r\n{ask}Cookie: {COOKIE}={name}\r\n\r\n"
            connection.sendall(head.encode())
            assert b" 101 " in connection.recv(65536)
        assert any(b"GET /ws" in seen for seen in apps[name].seen)


def test_changes_of_a_pool_under_load_lose_no_request(box):
    """Replicas come, rest and go, and a revision follows the other, sixty times: every answer is a 200."""
    names = [f"a-r{revision}-{number}" for revision in (1, 2) for number in range(3)]
    for name in names:
        box.app(name)
    apply(box, pool(box, names[0]))
    answers: Counter[int] = Counter()
    stop = threading.Event()

    def visit() -> None:
        while not stop.is_set():
            answers[box.get("/busy")[0]] += 1

    visitors = [threading.Thread(target=visit) for _ in range(6)]
    for visitor in visitors:
        visitor.start()
    for turn in range(60):
        some = names[:3] if turn % 20 < 10 else names[3:]
        members = some[: 1 + turn % 3]
        apply(box, pool(box, *members, rests=tuple(set(names) - set(members)) if turn % 4 else ()))
    stop.set()
    for visitor in visitors:
        visitor.join()
    assert set(answers) == {200}, answers
    assert answers[200] > 50


def test_counters_are_asked_for_by_the_pool(box):
    """One question for all of its servers; none for those of other pools."""
    for name in (*THREE, "b-r1-0"):
        box.app(name)
    apply(box, both(pool(box, *THREE), pool(box, "b-r1-0", number=8, host=B)))
    asyncio.run(box.ingress.stats(THREE))
    asked: list[str] = []
    ask = box.ingress._haproxy.ask

    async def noted(command: str, **more: bool) -> str:
        asked.append(command)
        answer: str = await ask(command, **more)
        return answer

    box.ingress._haproxy.ask = noted
    assert set(asyncio.run(box.ingress.stats(THREE))) == set(THREE)
    assert asked == [f"show info; show stat pool-7 4 -1; show map {box.files}/uncounted.map"]
