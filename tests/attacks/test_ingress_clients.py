"""Who counts as a client of the ingress, and how much one may ask for. With a real HAProxy.

The tests are at the proxy's place: 127.0.0.1 is trusted, 127.0.0.2 is not.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flyted.contract.names import GATEWAY_HOST
from flyted.plan.ingress.clients import PERIOD_S, ClientRules, limits_value
from flyted.plan.ingress.state import IngressState
from tests.host.haproxy import A, B, Machine, apply, exchange, needs_haproxy, parsed, until

pytestmark = [pytest.mark.slow, needs_haproxy]

HOST, OTHER = A, B
RATE = 2.0
MOST = int(RATE * PERIOD_S)
CLIENT, NEIGHBOUR = "2001:db8:1:2::7", "2001:db8:1:2:ffff:ffff:ffff:ffff"


def two(box: Machine, limits: dict[str, str] | None = None) -> IngressState:
    """Two apps."""
    servers = {name: box.server(name) for name in ("a-r1-0", "b-r1-0")}
    return IngressState(servers=servers, hosts={HOST: "a-r1-0", OTHER: "b-r1-0"}, limits=limits or {})


@contextlib.contextmanager
def ingress(folder: Path, rules: ClientRules, limits: dict[str, str] | None = None) -> Iterator[Machine]:
    """A HAProxy with these rules, and two apps."""
    box = Machine(folder)
    box.listen = replace(box.listen, clients=rules)
    try:
        for name in ("a-r1-0", "b-r1-0"):
            box.app(name)
        box.ingress.write(two(box, limits), box.listen)
        box.start()
        yield box
    finally:
        box.close()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Machine]:
    """One that trusts 127.0.0.1, and gives a client two requests a second."""
    with ingress(tmp_path, ClientRules(trusted_proxies=("127.0.0.1",), requests_per_s=RATE)) as made:
        yield made


def statuses(box: Machine, times: int, headers: str = "", host: str = HOST, source: str = "127.0.0.1") -> list[int]:
    """The answers to so many requests on one connection."""
    plain = socket.create_connection(("127.0.0.1", box.listen.https_port), 10, source_address=(source, 0))
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode()
    found = []
    with box.tls().wrap_socket(plain, server_hostname=host) as connection:
        for _ in range(times):
            connection.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
            head, _, body = answer.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: ([0-9]+)", head.lower())
            assert length is not None
            while len(body) < int(length[1]):
                body += connection.recv(65536)
            found.append(int(head.split(b" ")[1]))
    return found


def by(*addresses: str) -> str:
    """The header of a proxy."""
    return f"X-Forwarded-For: {', '.join(addresses)}\r\n"


def limited(box: Machine, headers: str, **more: str) -> bool:
    """Whether the next request is refused."""
    return statuses(box, 1, headers, **more) == [429]


def test_a_client_gets_as_much_as_is_allowed_at_each_app(box: Machine) -> None:
    """The rest is answered with 429 and a time; others, and the same client at another app, are not concerned."""
    assert statuses(box, MOST + 5, by(CLIENT)) == [200] * MOST + [429] * 5
    assert statuses(box, 1, by("203.0.113.9")) == [200]
    assert statuses(box, 1, by(CLIENT), host=OTHER) == [200]
    status, head, body = box.get(headers=by(CLIENT))
    assert (status, "retry-after: 1" in head.lower()) == (429, True)
    assert body == f"429: too many requests: {RATE:.0f} a second of one client are allowed here\n"


def test_a_network_of_ipv6_is_one_client(box: Machine) -> None:
    """Whoever has one address of it has 2^64; the network beside it is another client."""
    assert statuses(box, MOST, by(CLIENT)) == [200] * MOST
    assert limited(box, by(NEIGHBOUR))
    assert not limited(box, by("2001:db8:1:3::7"))


@pytest.mark.parametrize(
    "headers",
    [
        by("203.0.113.1", CLIENT),
        by("127.0.0.1", CLIENT),
        by("::1", CLIENT),
        by("203.0.113.1") + by(CLIENT),
        by(CLIENT) + "X-Real-IP: 203.0.113.1\r\n",
        by(CLIENT) + "Forwarded: for=203.0.113.1\r\n",
        by(CLIENT) + "X_Forwarded_For: 203.0.113.1\r\n",
        by(CLIENT) + "X-Forwarded-For : 203.0.113.1\r\n",
        by(CLIENT) + "True-Client-IP: 203.0.113.1\r\nCF-Connecting-IP: 203.0.113.1\r\n",
    ],
)  # fmt: skip
def test_no_header_makes_a_client_another_one(box: Machine, headers: str) -> None:
    """What the proxy adds stands last; all else the client may have sent."""
    assert statuses(box, MOST, by(CLIENT)) == [200] * MOST
    status = parsed(box.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{headers}\r\n".encode()))[0]
    assert status in (429, 400)


def test_the_app_hears_of_the_client_and_of_nobody_else(box: Machine) -> None:
    """One address, in the one header that we write; the log has it too."""
    app = box._apps[0]
    statuses(box, 1, by("203.0.113.1", CLIENT) + "X-Real-IP: 203.0.113.1\r\n")
    forwarded = re.findall(rb"\r\n(x-forwarded-for|x-real-ip): ([^\r]*)", app.seen[-1].lower())
    assert forwarded == [(b"x-forwarded-for", CLIENT.encode())]


def test_proxies_behind_each_other_are_passed(tmp_path: Path) -> None:
    """The client is the last address that is not one of them: what stands before it the client may have written."""
    rules = ClientRules(trusted_proxies=("127.0.0.1", "10.0.0.0/8"), requests_per_s=RATE)
    with ingress(tmp_path, rules) as box:
        statuses(box, 1, by("203.0.113.1", CLIENT, "10.1.2.3", "10.1.2.4"))
        assert f"x-forwarded-for: {CLIENT}\r\n".encode() in box._apps[0].seen[-1].lower()


def test_who_is_not_trusted_names_nobody(box: Machine) -> None:
    """Its own address counts; this machine's users have no limit."""
    assert statuses(box, MOST + 5, by(CLIENT), source="127.0.0.2") == [200] * (MOST + 5)
    assert b"x-forwarded-for: 127.0.0.2\r\n" in box._apps[0].seen[-1].lower()
    assert not limited(box, by(CLIENT))


def test_a_client_cannot_come_from_this_machine_through_a_proxy(box: Machine) -> None:
    """A proxy on this machine that passes its client's word on would make everybody a local user."""
    headers = f"Host: {HOST}\r\nAuthorization: x\r\n{by('127.0.0.1', CLIENT)}Connection: close\r\n"
    answer = box.send_plain(f"GET / HTTP/1.1\r\n{headers}\r\n".encode())
    assert parsed(answer)[2].startswith("403: these credentials were sent unencrypted")


OWN = ((GATEWAY_HOST, "/"), (GATEWAY_HOST, "/flyteidl2.app.AppService/List"), (HOST, "/.flyted/session"))
"""What is for users of this machine: the login, Flyte's API, and where a browser gets an app's cookie."""


def gateways(box: Machine, before: bytes = b"", headers: str = "", *, plain: bool = False) -> int:
    """How many of these addresses lead to the gateway."""
    gateway, port = box.gateway(), box.listen.http_port if plain else box.listen.https_port
    for host, path in OWN:
        connection = socket.create_connection(("127.0.0.1", port), 10)
        connection.sendall(before)
        with connection if plain else box.tls().wrap_socket(connection, server_hostname=HOST) as sent:
            exchange(sent, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n".encode())
    gateway.close()
    gateway.path.unlink()
    return len(gateway.seen)


def test_a_client_of_a_proxy_on_this_machine_is_not_on_this_machine(box: Machine) -> None:
    """The proxy comes to a loopback address, and passes on whatever Host its client sends."""
    assert gateways(box) == len(OWN), "a user of this machine"
    assert gateways(box, headers=by("127.0.0.1")) == len(OWN), "also by the proxy"
    for client in (CLIENT, "203.0.113.9", f"127.0.0.1, {CLIENT}", f"{CLIENT}, 198.51.100.7"):
        assert gateways(box, headers=by(client)) == 0, client
        assert gateways(box, headers=by(client), plain=True) == 0, client


def test_the_login_is_not_on_the_network(tmp_path: Path) -> None:
    """By the PROXY protocol clients come from addresses, and to addresses, that are not this machine's loopback."""
    with ingress(tmp_path, ClientRules(proxy_protocol=("127.0.0.1",))) as box:
        for source, to, found in (
            ("127.0.0.1", "127.0.0.1", len(OWN)),
            ("203.0.113.9", "198.51.100.1", 0),
            ("203.0.113.9", "127.0.0.1", 0),
            ("198.51.100.1", "198.51.100.1", 0),
        ):
            assert gateways(box, f"PROXY TCP4 {source} {to} 5000 443\r\n".encode()) == found, (source, to)


def test_an_app_may_allow_less_or_more_and_that_is_for_everybody(tmp_path: Path) -> None:
    """Also for this machine's users: who sets a limit wants to see it. It can be changed while HAProxy runs."""
    limits = {HOST: limits_value(1.0, h2c=False)}
    with ingress(tmp_path, ClientRules(requests_per_s=0), limits=limits) as box:
        assert statuses(box, PERIOD_S + 2) == [200] * PERIOD_S + [429] * 2
        assert statuses(box, PERIOD_S + 2, host=OTHER) == [200] * (PERIOD_S + 2)
        apply(box, two(box, limits={HOST: limits_value(2.0, h2c=False)}))
        assert statuses(box, PERIOD_S + 2) == [200] * PERIOD_S + [429] * 2
        apply(box, two(box))
        assert statuses(box, 5) == [200] * 5


def through(box: Machine, *requests: str, pause_s: float = 0.2) -> tuple[list[bytes], bytes]:
    """What the app sees, and what comes back, if a proxy sends these on one connection that it keeps."""
    app = box._apps[0]
    before = len(app.seen)
    answer = b""
    with box.connect() as connection:
        connection.settimeout(pause_s)
        for request in requests:
            with contextlib.suppress(OSError):
                connection.sendall(request.encode())
                while more := connection.recv(65536):
                    answer += more
    return app.seen[before:], answer


def request(client: str, path: str = "/", more: str = "", method: str = "GET") -> str:
    """One of a client's, as a proxy passes it on."""
    return f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{by(client)}{more}\r\n"


def clients(seen: list[bytes]) -> list[bytes]:
    """Whose requests the app has got, and for what."""
    return [re.sub(rb"(?s)^\S+ (\S+) .*\r\nx-forwarded-for: ([^\r]*)\r\n.*$", rb"\1 \2", each) for each in seen]


def test_a_connection_of_a_proxy_has_many_clients(box: Machine) -> None:
    """Each request is its own client's; one that has none is the proxy's, and not that of the client before."""
    nobody = f"GET /n HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    seen, _ = through(box, request("203.0.113.1", "/a"), request("203.0.113.2", "/b"), nobody, request(CLIENT, "/c"))
    assert clients(seen) == [b"/a 203.0.113.1", b"/b 203.0.113.2", b"/n 127.0.0.1", b"/c " + CLIENT.encode()]
    pipelined = request("203.0.113.1", "/a") + request("203.0.113.2", "/b")
    assert clients(through(box, pipelined)[0]) == [b"/a 203.0.113.1", b"/b 203.0.113.2"]
    assert statuses(box, MOST, by("203.0.113.9")) == [200] * MOST
    answer = through(box, request("203.0.113.8"), request("203.0.113.9"), request("203.0.113.8"))[1]
    assert re.findall(rb"HTTP/1.1 ([0-9]+) ", answer) == [b"200", b"429", b"200"]


INNER = request("127.0.0.1", "/smuggled")
"""What an attacker hides in a request: one that seems to be of a user of this machine."""


@pytest.mark.parametrize(
    ("more", "body"),
    [
        (f"Content-Length: {len(INNER)}\r\nTransfer-Encoding: chunked\r\n", f"0\r\n\r\n{INNER}"),
        ("Content-Length: 5\r\nContent-Length: 0\r\n", INNER),
        ("Content-Length: 0, 5\r\n", INNER),
        ("Content-Length: +0\r\n", INNER),
        ("Content-Length: 0x0\r\n", INNER),
        ("Transfer-Encoding: xchunked\r\n", f"0\r\n\r\n{INNER}"),
        ("Transfer-Encoding: chunked, identity\r\n", f"0\r\n\r\n{INNER}"),
        ("Transfer-Encoding\t: chunked\r\n", f"0\r\n\r\n{INNER}"),
        ("Transfer-Encoding:\x0bchunked\r\n", f"0\r\n\r\n{INNER}"),
        (f"Content-Length: {len(INNER)}\r\n", INNER),
        ("Transfer-Encoding: chunked\r\n", f"{len(INNER):x}\r\n{INNER}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", f"{len(INNER):x};a=\n\r\n{INNER}\r\n0\r\n\r\n"),
    ],
)  # fmt: skip
def test_nothing_is_smuggled_through_a_trusted_proxy(box: Machine, more: str, body: str) -> None:
    """A proxy that reads lengths in another way cannot be made to send a request of nobody.

    What is hidden in a body stays there, and where the end of a request is not clear the connection ends: the next
    client's request does not follow on it.
    """
    seen, answer = through(box, request(CLIENT, "/first", more, "POST") + body, request("203.0.113.2", "/next"))
    assert [each for each in seen if each.split(b" ", 2)[1] == b"/smuggled"] == []
    assert {each for each in clients(seen) if not each.endswith((CLIENT.encode(), b" 203.0.113.2"))} == set()
    assert b"/next 203.0.113.2" in clients(seen) or not answer or b"\r\nconnection: close\r\n" in answer.lower()


LENGTH, CHUNKED = "Content-Length: %d", "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("method", "field", "body", "status"),
    [
        ("POST", LENGTH % 100, b"x" * 100, 200),
        ("POST", LENGTH % 101, b"", 413),
        ("POST", LENGTH % (10**17 - 1), b"", 413),
        ("POST", CHUNKED, b"1\r\nx\r\n0\r\n\r\n", 411),
        ("GET", CHUNKED, b"1\r\nx\r\n0\r\n\r\n", 411),
        ("GET", "X: y", b"", 200),
    ],
)
def test_a_body_is_limited_by_its_length(tmp_path: Path, method: str, field: str, body: bytes, status: int) -> None:
    """One without a length could be of any; gRPC has none, and limits its messages itself."""
    with ingress(tmp_path, ClientRules(body_bytes=100), limits={OTHER: limits_value(0, h2c=True)}) as box:
        head = f"{method} / HTTP/1.1\r\nConnection: close\r\nHost: {{}}\r\n{field}\r\n\r\n"
        assert parsed(box.send(head.format(HOST).encode() + body))[0] == status
        if field == CHUNKED:
            assert parsed(box.send(head.format(OTHER).encode() + body, host=OTHER))[0] == 200


def test_the_proxy_protocol_is_read_of_whom_it_is_expected_and_of_nobody_else(tmp_path: Path) -> None:
    """Who may send it is the client that he names; others who send it are no clients, and need none."""
    rules = ClientRules(proxy_protocol=("127.0.0.1",), requests_per_s=RATE)
    with ingress(tmp_path, rules) as box:
        for source, first, served in (
            ("127.0.0.1", b"PROXY TCP4 203.0.113.9 127.0.0.1 5000 443\r\n", "203.0.113.9"),
            ("127.0.0.2", b"", "127.0.0.2"),
            ("127.0.0.2", b"PROXY TCP4 203.0.113.9 127.0.0.1 5000 443\r\n", ""),
            ("127.0.0.1", b"", ""),
        ):
            plain = socket.create_connection(("127.0.0.1", box.listen.https_port), 10, source_address=(source, 0))
            plain.sendall(first)
            seen = len(box._apps[0].seen)
            with contextlib.suppress(OSError), box.tls().wrap_socket(plain, server_hostname=HOST) as connection:
                exchange(connection, f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            plain.close()
            new = box._apps[0].seen[seen:]
            assert len(new) == bool(served)
            assert all(f"x-forwarded-for: {served}\r\n".encode() in each.lower() for each in new)


def test_connections_of_a_client_are_limited_and_those_of_a_trusted_proxy_are_not(tmp_path: Path) -> None:
    """Those of this machine neither. (That others are refused is in tests/machine: all addresses here are local.)"""
    with ingress(tmp_path, ClientRules(connections=2, trusted_proxies=("127.0.0.1",))) as box:
        held = [box.connect() for _ in range(4)]
        assert statuses(box, 1) == [200]
        for each in held:
            each.close()


def test_every_request_is_logged_if_that_is_asked_for(tmp_path: Path) -> None:
    """Client, host, path, status, user and size, each in a field of its own; neither the query nor a token."""
    for folder, wanted in (("quiet", False), ("all", True)):
        (tmp_path / folder).mkdir()
        rules = ClientRules(trusted_proxies=("127.0.0.1",), access_log=wanted)
        with ingress(tmp_path / folder, rules) as box:
            box.get("/x?secret=1", headers=f"{by(CLIENT)}Authorization: Bearer flyted_secret\r\n")
            line = f"{CLIENT} https~ a-r1-0 GET {HOST}/x 200"
            if wanted:
                until(lambda line=line, log=box.log: line in log.read_text())  # type: ignore[misc]
        log = box.log.read_text()
        assert (line in log) == wanted, log
        assert "secret" not in log + repr(box.entries)
    found = next(each for each in box.entries if each.get("FLYTED_PATH") == "/x")
    assert found.pop("FLYTED_MS").isdigit()
    assert int(found.pop("FLYTED_BYTES")) > 0
    assert found.pop("MESSAGE").startswith(line)
    assert found == {
        "PRIORITY": "6", "SYSLOG_IDENTIFIER": "flyted-ingress", "FLYTED_CLIENT": CLIENT, "FLYTED_SERVER": "a-r1-0",
        "FLYTED_METHOD": "GET", "FLYTED_HOST": HOST, "FLYTED_STATUS": "200", "FLYTED_PATH": "/x", "FLYTED_USER": "-",
        "": "",
    }  # fmt: skip
