"""Other names of an app: none of them is a way past what its first name asks for. With a real HAProxy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flyted.contract.names import GATEWAY_HOST
from flyted.plan.ingress.auth import OWN_PATH
from flyted.plan.ingress.clients import ClientRules
from flyted.plan.ingress.paths import keys
from flyted.plan.ingress.state import IngressState
from tests.host.haproxy import A, B, Machine, needs_haproxy

pytestmark = [pytest.mark.slow, needs_haproxy]

SITE = "apps.example.org"
OPEN, GUARDED, RESTRICTED = f"a.{SITE}", f"b.{SITE}", f"c.{SITE}"
API = "flyted.apps.example.net"
HTML = "Accept: text/html\r\n"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Machine]:
    """Three apps: open, with a token, and with one open path; the second one has a name of its own, too."""
    made = Machine(tmp_path)
    made.listen = replace(made.listen, clients=ClientRules(requests_per_s=0))
    servers = {f"{letter}-r1-0": made.server(f"{letter}-r1-0") for letter in "abc"}
    hosts = {f"{letter}.apps.localhost": f"{letter}-r1-0" for letter in "abc"}
    state = IngressState(
        servers=servers, hosts=hosts, guarded={B: "b"}, restricted={"c.apps.localhost": "c"},
        open_paths=keys("c.apps.localhost", ["/v1"]), domains={SITE: "apps.localhost"},
        names={"chat.example.org": B, "www.example.org": A, API: GATEWAY_HOST},
    )  # fmt: skip
    try:
        for name in servers:
            made.app(name)
        made.gateway()
        made.ingress.write(state, made.listen)
        made.start()
        yield made
    finally:
        made.close()


def ask(box: Machine, host: str, path: str = "/", headers: str = "") -> tuple[int, str, str]:
    """The answer to a request for a host; TLS is for another one, which HAProxy does not compare."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n"
    answer = box.send(request.encode()).decode()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split(" ")[1]), head, body


def test_an_app_answers_at_all_its_names(box: Machine) -> None:
    """In any case of letters, with a port, with the dot of a full name; and it hears the name that was asked for."""
    for host in (A, OPEN, OPEN.upper(), f"{OPEN}:8443", f"{OPEN}.", "www.example.org"):
        status, _, body = ask(box, host)
        assert (status, body) == (200, "a-r1-0\n"), host
    app = next(each for each in box._apps if each.name == "a-r1-0")
    assert b"X-Forwarded-Host: www.example.org\r\n".lower() in app.seen[-1].lower()
    assert b"\r\nhost: www.example.org\r\n" in app.seen[-1].lower()


@pytest.mark.parametrize(
    "host",
    [
        SITE, f"x.a.{SITE}", f".{SITE}", f"a..{SITE}", f"d.{SITE}", "a.example.org", f"a.{SITE}.evil.org", f"a{SITE}",
        "example.org", f"a.apps.localhost.{SITE}", f"a.{SITE}.apps.localhost", f"[::1].{SITE}", f"a%2e{SITE}",
    ],
)  # fmt: skip
def test_no_other_name_is_an_apps(box: Machine, host: str) -> None:
    """Nor one that begins or ends like one."""
    status, _, body = ask(box, host)
    assert status in (400, 421), body
    assert all(app.seen == [] for app in box._apps)


@pytest.mark.parametrize("host", [B, GUARDED, "chat.example.org", GUARDED.upper(), f"{GUARDED}."])
@pytest.mark.parametrize("path", ["/", OWN_PATH, f"{OWN_PATH}login", f"{OWN_PATH}../"])
def test_a_token_is_asked_for_at_every_name(box: Machine, host: str, path: str) -> None:
    """Below the path of our own pages, too, which are at the machine's own names alone."""
    status, _, _ = ask(box, host, path)
    app = next(each for each in box._apps if each.name == "b-r1-0")
    assert app.seen == []
    assert status == (401 if host != B or path == "/" else 200)


def test_a_browser_is_not_sent_to_a_name_that_means_its_own_machine(box: Machine) -> None:
    """The login is at flyted.localhost: somebody at another machine would come to whatever listens there."""
    assert ask(box, B, headers=HTML)[0] == 302
    status, head, _ = ask(box, GUARDED, headers=HTML)
    assert status == 401
    assert "location" not in head.lower()


def test_closed_paths_are_closed_at_every_name(box: Machine) -> None:
    """And open ones open."""
    for host in ("c.apps.localhost", RESTRICTED):
        assert ask(box, host, "/v1/x")[0] == 200
        assert ask(box, host, "/metrics")[0] == 403
        assert ask(box, host, "/v1/../metrics")[0] == 403


@pytest.mark.parametrize("host", [f"flyted.{SITE}", f"{GATEWAY_HOST}.{SITE}"])
def test_the_gateway_has_no_other_name(box: Machine, host: str) -> None:
    """Its pages and Flyte's API are for this machine."""
    assert ask(box, GATEWAY_HOST)[0] == 200
    assert ask(box, host)[0] == 421


def test_the_gateway_at_a_name_that_it_was_given(box: Machine) -> None:
    """It is not told that the caller is on this machine's own name, and no app's rules are for it."""
    for host in (API, API.upper(), f"{API}:8443", f"{API}."):
        assert ask(box, host)[0] == 200, host
    for host in (f"x.{API}", f"{API}.apps.localhost", f"{API}.{SITE}"):
        assert ask(box, host)[0] == 421, host
    assert ask(box, API, OWN_PATH)[0] == 200  # the gateway knows no such page there


def test_a_client_has_one_allowance_at_all_names_of_an_app(tmp_path: Path) -> None:
    """Ten names are not ten times as many requests."""
    box = Machine(tmp_path)
    state = IngressState(
        servers={"a-r1-0": box.server("a-r1-0")}, hosts={A: "a-r1-0"}, limits={A: "4 -"},
        domains={SITE: "apps.localhost"}, names={"www.example.org": A},
    )  # fmt: skip
    try:
        box.app("a-r1-0")
        box.ingress.write(state, box.listen)
        box.start()
        found = [ask(box, host)[0] for host in (A, OPEN, "www.example.org") * 4]
    finally:
        box.close()
    assert found.count(200) == 4, found
    assert set(found) == {200, 429}
