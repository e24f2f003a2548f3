"""What an attacker may try with the page that browsers get while an app starts, with a real HAProxy."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyted.plan.ingress import start_page
from flyted.plan.ingress.state import unavailable
from tests.host.haproxy import A, Machine, apply, machine, needs_haproxy, parsed, until
from tests.host.test_ingress_start_page import STEP, asleep, fields, is_page, requests, visit

pytestmark = [pytest.mark.slow, needs_haproxy]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Machine]:
    """An ingress for each attack: what one leaves behind is not to help another."""
    with machine(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    "later",
    [{"hosts": {A: "b-r1-0"}}, {"guarded": {A: "a"}}, {"restricted": {A: "a"}},
     {"unavailable": {A: unavailable("it has failed")}}],
)  # fmt: skip
def test_what_has_changed_meanwhile_counts(box: Machine, later: dict[str, Any]) -> None:
    """Another revision, which may want a token: the visit comes again, and these rules are asked again."""
    apps = [box.app("a-r1-0"), box.app("b-r1-0")]
    state = asleep(box)
    state = replace(state, servers={**state.servers, "b-r1-0": box.server("b-r1-0")})
    apply(box, state)
    timer = threading.Timer(0.3, lambda: apply(box, replace(state, cold={}, steps={}, **later)))
    timer.start()
    answer = visit(box)
    timer.join()
    assert is_page(answer)
    assert "content=0>" in answer[2]
    assert [requests(app) for app in apps] == [[], []]
    assert not is_page(visit(box))


def test_who_may_not_visit_wakes_nothing(box: Machine) -> None:
    """A stranger at an app that requires a token, and a path that is closed."""
    app = box.app("a-r1-0")
    apply(box, asleep(box, guarded={A: "a"}))
    assert visit(box)[0] == 302
    apply(box, asleep(box, restricted={A: "a"}))
    assert visit(box)[0] == 403
    assert app.connections == 0


@pytest.mark.parametrize(
    ("host", "status"),
    [("<b>.apps.localhost", 400), ("a.apps.localhost:1<", 400), ("x" * 300 + ".apps.localhost", 421),
     ("b.apps.localhost", 421), ("A.APPS.localhost.", 503), ("%[env(PATH)].apps.localhost", 400)],
)  # fmt: skip
def test_nothing_of_a_request_is_in_the_page(box: Machine, host: str, status: int) -> None:
    """Only the name that the tables have for it; no path, query, header or other name."""
    app = box.app("a-r1-0")
    apply(box, asleep(box))
    raw = f"GET /%3Cscript%3E?q=<script>&%[env(HOME)] HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    raw = raw.replace("<script>&%[env(HOME)]", "&amp;scriptmark")
    raw += f"{fields({'Cookie': 'scriptmark=1', 'Referer': 'https://x/scriptmark', 'User-Agent': '<scriptmark>'})}\r\n"
    found, head, body = parsed(box.send(raw.encode()))
    assert found == status
    assert is_page((found, head, body)) == (status == 503)
    assert "script" not in body
    assert "A.APPS" not in body
    assert requests(app) == []


@pytest.mark.parametrize("step", ["", STEP])
def test_a_crowd_of_visits_is_not_held_back(box: Machine, step: str) -> None:
    """Beyond so many a second they go on as ever; those that are held back wake the app by one connection."""
    app = box.app("a-r1-0")
    apply(box, asleep(box, step))
    raw = f"GET / HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n{fields()}\r\n".encode()
    found: list[int] = []

    def ask() -> None:
        found.append(parsed(box.send(raw))[0])

    threads = [threading.Thread(target=ask) for _ in range(4 * start_page.MOST)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found.count(503) + found.count(200) == len(threads)
    assert (found.count(503) > 0) == bool(step)
    assert found.count(200) == len(requests(app))
    woken = app.connections - len(requests(app))
    assert woken == 0 if step else 1 <= woken <= 5, "once a second, until it starts"


def test_a_visitor_who_leaves_meanwhile_is_forgotten(box: Machine) -> None:
    """The app starts nevertheless, as for any client that hangs up, and is sent nothing."""
    app = box.app("a-r1-0")
    apply(box, asleep(box, step=""))
    for _ in range(3):
        with box.connect() as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {A}\r\n{fields()}\r\n".encode())
            time.sleep(0.1)
    apply(box, asleep(box))
    until(lambda: "CurrConns: 0" in asyncio.run(box.ingress._haproxy.ask("show info")))
    assert app.connections >= 1
    assert requests(app) == []
    assert is_page(visit(box))
