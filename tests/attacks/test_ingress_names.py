"""Other names of an app: none of them is a way past what its first name asks for. With a real HAProxy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flyted.contract import token
from flyted.contract.names import GATEWAY_HOST
from flyted.plan.ingress.auth import OWN_PATH
from flyted.plan.ingress.clients import ClientRules
from flyted.plan.ingress.paths import keys
from flyted.plan.ingress.state import IngressState, Unavailable
from tests.host.haproxy import A, B, Machine, apply, needs_haproxy

pytestmark = [pytest.mark.slow, needs_haproxy]

SITE, OLD = "apps.example.org", "old.example.org"
OPEN, GUARDED, RESTRICTED = f"a.{SITE}", f"b.{SITE}", f"c.{SITE}"
API, HOUSE = "flyted.apps.example.net", "flyted.box.lan"
EVERY, ONE = (token.new(bytes([number]) * token.RANDOM_BYTES) for number in (1, 2))
"""A token for all that a user may do, and one for app b."""
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
        open_paths=keys("c.apps.localhost", ["/v1"]), domains={SITE: "apps.localhost", OLD: "apps.localhost"},
        redirects={OLD: SITE},
        names={"chat.example.org": B, "www.example.org": A, API: GATEWAY_HOST}, authorities={HOUSE: "box.lan"},
    )  # fmt: skip
    try:
        for name in servers:
            made.app(name)
        made.gateway()
        until = int(time.time()) + 3600
        made.ingress.tokens = {
            token.digest(EVERY): f"{until} * alice", token.digest(ONE): f"{until} b alice",
        }.copy  # fmt: skip
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


@pytest.mark.parametrize("path", ["/", "/v1/x?a=b&c=%2e", "//evil.org/x", "/\\evil.org", f"{OWN_PATH}login"])
@pytest.mark.parametrize("letter", "abc")
def test_a_domain_that_has_moved_leads_to_the_new_one(box: Machine, letter: str, path: str) -> None:
    """For every app, with path and query; no request reaches an app, and no token is asked for or shown."""
    for port in ("", ":8443"):
        status, head, _ = ask(box, f"{letter}.{OLD}{port}", path, f"Authorization: Bearer {EVERY}\r\n")
        assert status == 308
        assert f"location: https://{letter}.{SITE}{port}{path}\r\n".lower() in f"{head}\r\n".lower()
        assert EVERY not in head
        assert "cache-control: no-store" in head.lower()
    assert all(app.seen == [] for app in box._apps)


def test_unencrypted_the_old_name_is_asked_again_encrypted(box: Machine) -> None:
    """Clients may store that answer, and so it does not have the new name."""
    said = box.send_plain(f"GET /x HTTP/1.1\r\nHost: a.{OLD}\r\nConnection: close\r\n\r\n".encode()).decode()
    assert said.startswith("HTTP/1.1 308 ")
    assert f"location: https://a.{OLD}" in said.lower()
    assert SITE not in said


@pytest.mark.parametrize("host", [f"d.{OLD}", OLD, f"x.a.{OLD}", f"a.{OLD}.evil.org"])
def test_what_is_no_apps_name_leads_nowhere(box: Machine, host: str) -> None:
    """Also at a domain that has moved."""
    assert ask(box, host)[0] == 421


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
    """It hears which name that is; strangers do not come to it, but with the address of an upload."""
    gateway = next(each for each in box._apps if each.name == "gateway")
    for host in (API, API.upper(), f"{API}:8443", f"{API}."):
        assert ask(box, host)[0] == ask(box, host, headers=f"Authorization: Bearer {'x' * 50}\r\n")[0] == 401, host
    assert ask(box, API, OWN_PATH)[0] == ask(box, API, headers=HTML)[0] == 401
    for host in (f"x.{API}", f"{API}.apps.localhost", f"{API}.{SITE}"):
        assert ask(box, host)[0] == 421, host
    assert ask(box, API, "/upload/x")[0] == 401
    assert gateway.seen == []
    put = f"PUT /upload/x HTTP/1.1\r\nHost: {API}:8443\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert box.send(put.encode()).startswith(b"HTTP/1.1 200")
    assert b"x-flyted-host: flyted.apps.example.net:8443\r\n" in gateway.seen[0].lower()


def test_who_may_use_the_gateway_at_its_other_name(box: Machine) -> None:
    """The holder of a token for everything; one for an app opens that app alone, and the gateway sees the token."""
    gateway = next(each for each in box._apps if each.name == "gateway")
    assert ask(box, API, headers=f"Authorization: Bearer {ONE}\r\n")[0] == 401
    assert ask(box, B, headers=f"Authorization: Bearer {ONE}\r\n")[0] == 200
    assert ask(box, API, headers=f"Cookie: {token.COOKIE}={EVERY}\r\n")[0] == 401
    assert gateway.seen == []
    assert ask(box, API, headers=f"Authorization: Bearer {EVERY}\r\n")[0] == 200
    assert EVERY.encode() in gateway.seen[0]


def test_an_authority_is_handed_out_and_nothing_else(box: Machine) -> None:
    """At its three paths; the way to the gateway's calls and pages is open at no other, nor by another method."""
    for path in ("/", "/ca.crt", "/ca.mobileconfig"):
        assert ask(box, HOUSE, path)[0] == 200, path
    for path in (
        "/login",
        "/flyteidl2.app.AppService/List",
        "/upload/x",
        "/ca.crt/",
        "//",
        "/v2/../",
        "/.flyted/session",
    ):
        assert ask(box, HOUSE, path)[0] == 421, path
    for host in ("box.lan", f"x.{HOUSE}", "a.box.lan"):
        assert ask(box, host, "/ca.crt")[0] == 421, host
    answer = box.send(f"POST / HTTP/1.1\r\nHost: {HOUSE}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 421")
    asked = next(each for each in box._apps if each.name == "gateway").seen
    assert any("x-flyted-authority: box.lan" in head.lower() for head in map(str, asked))


@pytest.mark.parametrize("down", [False, True])
def test_an_app_of_flyteds_name_hides_no_authority(box: Machine, down: bool) -> None:
    """One that an earlier version let be served: with a token, or stopped, it has all paths but those three."""
    named = "flyted.apps.localhost"
    state = IngressState(
        servers={} if down else {"b-r1-0": box.server("b-r1-0")}, hosts={} if down else {named: "b-r1-0"},
        unavailable={named: Unavailable("stopped")} if down else {}, guarded={named: "flyted"},
        domains={"box.lan": "apps.localhost"}, authorities={HOUSE: "box.lan"},
    )  # fmt: skip
    apply(box, state)
    for path in ("/", "/ca.crt", "/ca.mobileconfig"):
        assert ask(box, HOUSE, path)[0] == 200, path
    gateway, app = (next(each for each in box._apps if each.name == name) for name in ("gateway", "b-r1-0"))
    assert len(gateway.seen) == 3
    for path in ("/x", "/login", "/ca.crt/", "/.flyted/session"):
        assert ask(box, HOUSE, path)[0] == 401, path
    assert ask(box, "flyted.apps.localhost", "/ca.crt")[0] == 401, "at its own name it has them all"
    post = f"POST / HTTP/1.1\r\nHost: {HOUSE}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert box.send(post.encode()).startswith(b"HTTP/1.1 401")
    assert (len(gateway.seen), app.seen) == (3, [])


def test_nobody_names_an_authority_himself(box: Machine) -> None:
    """The header is the ingress's own."""
    ask(box, GATEWAY_HOST, "/", "X-Flyted-Authority: evil.example\r\nX-Flyted-Host: evil.example\r\n")
    asked = next(each for each in box._apps if each.name == "gateway").seen
    assert asked
    assert not any("evil" in str(head) for head in asked)


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
