"""Clients on another machine: how much one may ask for, and what the journal has of it. A namespace stands for it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.machine.kit.apps import serve, write
from tests.machine.kit.settings import settings
from tests.machine.kit.units import sh
from tests.machine.kit.users import alice, answer, curl, refused, serving, until

# documentation addresses (RFC 5737, RFC 3849); the two of the visitor in IPv6 are of one network, and so one client;
# the second one in IPv4 is another client, which has not used up what it is allowed
OURS, VISITOR, SECOND = "198.51.100.1", "198.51.100.2", "198.51.100.3"
VANISHING = "198.51.100.4"
OURS6, VISITOR6, ALIAS6 = "2001:db8:7::1", "2001:db8:7::2", "2001:db8:7::3"
RATE, PERIOD_S, CONNECTIONS = 2, 10, 6
LISTEN = f"""
[ingress]
listen = ["127.0.0.1", "::1", "{OURS}", "{OURS6}"]
access_log = true
[limits]
requests_per_s = {RATE}
connections = {CONNECTIONS}
body_bytes = 1000
"""
CLIENT = """
import contextlib, json, socket, ssl, sys, time
host, port, address, source, mode, number = sys.argv[1:]
context = ssl.create_default_context(cadata=sys.stdin.read())
def connected():
    plain = socket.create_connection((address, int(port)), 5, source_address=(source, 0))
    return context.wrap_socket(plain, server_hostname=host)
def status(connection, more="", body=b""):
    head = f"{'POST' if more else 'GET'} /?q=hidden HTTP/1.1\\r\\nHost: {host}\\r\\n{more}\\r\\n"
    connection.sendall(head.encode() + body)
    answer = b""
    while b"\\r\\n\\r\\n" not in answer:
        answer += connection.recv(65536)
    head, _, rest = answer.partition(b"\\r\\n\\r\\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\\r\\n")[0])
    while len(rest) < length:
        rest += connection.recv(65536)
    return int(head.split()[1])
if mode == "requests":
    with connected() as connection:
        print(json.dumps([status(connection) for _ in range(int(number))]))
elif mode == "body":
    with connected() as connection:
        print(json.dumps([status(connection, f"Content-Length: {number}\\r\\n", b"x" * int(number))]))
elif mode == "hold":
    upgrade = "Upgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n"
    upgrade += "Sec-WebSocket-Version: 13\\r\\n"
    asked = [("/stream?n=9999", ""), ("/ws", upgrade), ("/slow?s=9999", "")][: int(number)]
    held = [connected() for _ in asked]
    for connection, (path, more) in zip(held, asked):
        connection.sendall(f"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\n{more}\\r\\n".encode())
    print(json.dumps([int(connection.recv(65536).split()[1]) for connection in held[:2]]), flush=True)
    time.sleep(9999)
else:
    held = []
    for _ in range(int(number)):
        with contextlib.suppress(OSError):
            held.append(connected())
    print(json.dumps([len(held)]))
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An app on a machine that also listens on a network, with one visitor in it."""
    found = serve("clients-app")
    sh("ip", "netns", "add", "visitor")
    try:
        for words in (
            "link add ours0 type veth peer name far0 netns visitor", f"addr add {OURS}/24 dev ours0",
            f"-6 addr add {OURS6}/64 dev ours0 nodad", "link set ours0 up",
            f"-n visitor addr add {VISITOR}/24 dev far0", f"-n visitor addr add {SECOND}/24 dev far0",
            f"-n visitor addr add {VANISHING}/24 dev far0", f"-n visitor -6 addr add {VISITOR6}/64 dev far0 nodad",
            f"-n visitor -6 addr add {ALIAS6}/64 dev far0 nodad", "-n visitor link set far0 up",
        ):  # fmt: skip
            sh("ip", *words.split())
        with settings(LISTEN):
            yield found
    finally:
        sh("ip", "netns", "del", "visitor")
        alice("flytectl", "app", "delete", "--yes", "--data", "clients-app")


def client(url: str, mode: str, number: int, source: str) -> list[str]:
    """The visitor's command; it reads the certificate that it trusts."""
    parts = urlsplit(url)
    return ["ip", "netns", "exec", "visitor", "python3", "-c", CLIENT, str(parts.hostname), str(parts.port or 443),
            OURS if "." in source else OURS6, source, mode, str(number)]  # fmt: skip


def visit(url: str, mode: str, number: int, source: str = VISITOR) -> list[int]:
    """What becomes of the visitor's requests, or how many connections it gets."""
    done = subprocess.run(
        client(url, mode, number, source),
        input=answer("ca", "show")["pem"], capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout)
    return found


def test_a_visitor_gets_as_much_as_is_allowed(url: str) -> None:
    """And users of this machine all that they want."""
    most = RATE * PERIOD_S
    assert visit(url, "requests", most + 3) == [200] * most + [429] * 3
    assert {curl(url)[0] for _ in range(3)} == {200}


def test_another_address_of_the_same_network_is_the_same_visitor(url: str) -> None:
    """In IPv6 everybody has 2^64 of them."""
    most = RATE * PERIOD_S
    assert visit(url, "requests", most, VISITOR6) == [200] * most
    assert visit(url, "requests", 1, ALIAS6) == [429]


def test_a_visitor_has_few_connections(url: str) -> None:
    """More are closed before TLS begins; they count while they last."""
    assert visit(url, "connections", CONNECTIONS + 4, SECOND) == [CONNECTIONS]
    assert visit(url, "requests", 1, SECOND) == [200]


def test_a_body_has_its_limit(url: str) -> None:
    """Also for users of this machine: it protects the apps."""
    assert visit(url, "body", 1001, SECOND) == [413]
    assert visit(url, "body", 1000, SECOND) == [200]


def test_each_request_is_in_the_journal(url: str) -> None:
    """Who, what and how it ended; no query string, since tokens travel in those."""
    host = urlsplit(url).hostname
    assert visit(url, "requests", 1, SECOND) == [200]
    lines = sh("journalctl", "-u", "flyted-ingress", "-o", "cat", "--since", "-2min").splitlines()
    assert any(line.startswith(f"{SECOND} https~ ") and f" GET {host}/ 200 " in line for line in lines), lines[-5:]
    assert "hidden" not in "\n".join(lines)
    chosen = (f"FLYTED_CLIENT={SECOND}", f"FLYTED_HOST={host}", "FLYTED_STATUS=200")
    found = sh("journalctl", "-u", "flyted-ingress", "-o", "json", "--since", "-2min", "-n", "1", *chosen)
    entry = json.loads(found)
    assert (entry["FLYTED_METHOD"], entry["FLYTED_PATH"], entry["FLYTED_USER"]) == ("GET", "/", "-")
    assert entry["SYSLOG_IDENTIFIER"] == "flyted-ingress"
    assert int(entry["FLYTED_BYTES"]) > 0
    assert "hidden" not in found


def test_an_app_has_a_limit_of_its_own(url: str) -> None:
    """For everybody, from the moment it serves; `app get` shows it. A wrong one changes nothing."""
    file = write("clients-app")
    alice(*serving("-q", "--rate", "30/m", file))
    assert answer("app", "get", "clients-app")["requests_per_s"] == 0.5
    found = [curl(url)[0] for _ in range(7)]
    assert (found[:5], set(found[5:])) == ([200] * 5, {429})
    assert "0.5 requests a second of one client" in alice("flytectl", "app", "get", "clients-app").stdout
    for rate in ("50", "0/s", "x/s", "1/h", "-1/s"):
        refused(*serving("--rate", rate, file), status=2)
    assert "must be 0.1 to 100000 a second" in refused(*serving("--rate", "1/m", file), status=2)


def in_flight() -> int:
    """The requests that keep the app awake."""
    return int(answer("app", "get", "clients-app")["requests"]["in_flight"])


@pytest.mark.long  # two minutes; CI asks HAProxy's sockets themselves (tests/host/test_ingress_limits.py)
def test_a_visitor_that_vanishes_keeps_no_app_awake(url: str) -> None:
    """Its stream, its WebSocket and its request without an answer end, although it says nothing any more."""
    words = client(url, "hold", 3, VANISHING)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as visitor:
        try:
            assert visitor.stdin is not None and visitor.stdout is not None
            visitor.stdin.write(answer("ca", "show")["pem"])
            visitor.stdin.close()
            assert json.loads(visitor.stdout.readline()) == [200, 101]
            assert in_flight() == 3
            sh("ip", "-n", "visitor", "route", "add", "blackhole", f"{OURS}/32")
            try:
                until(lambda: in_flight() == 0, 240)
            finally:
                sh("ip", "-n", "visitor", "route", "del", "blackhole", f"{OURS}/32")
        finally:
            visitor.kill()
