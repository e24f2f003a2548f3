"""No app calls another in a third one's name, and nobody else reaches the place where apps call apps."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.plan.calls import address
from tests.machine.kit.calling import CALLS, LLM, call, own_address
from tests.machine.kit.programs import do, port_server, processes, serve, unit
from tests.machine.kit.units import must
from tests.machine.kit.users import alice, by, forget_apps, until


@pytest.fixture(scope="module", autouse=True)
def _none_left() -> Iterator[None]:
    forget_apps("calls-")
    yield
    forget_apps("calls-")


@pytest.fixture(scope="module")
def llm() -> str:
    """An app that others call."""
    return serve("calls-llm", port_server())


@pytest.fixture(scope="module")
def caller(llm: str) -> str:
    """An app that may call it, and one that is not there."""
    assert llm
    return serve("calls-ui", port_server(), "--may-call", "calls-llm", "--may-call", "calls-absent")


@pytest.fixture(scope="module")
def eve(llm: str) -> str:
    """An app that may call none."""
    assert llm
    return serve("calls-eve", port_server())


ATTACKS = {
    "another app's address, by FREEBIND": "s.setsockopt(0, 15, 1); s.bind(({other!r}, 0))",
    "another app's address, on the loopback": "s.bind(({other!r}, 0))",
    "transparent proxying": "s.setsockopt(0, 19, 1); s.bind(({other!r}, 0))",
    "the ingress's own address": "s.setsockopt(0, 15, 1); s.bind(('198.18.255.1', 0))",
    "the router's": "s.setsockopt(0, 15, 1); s.bind(('198.18.0.1', 0))",
    "the loopback": "s.bind(('127.0.0.1', 0))",
}


@pytest.mark.parametrize("how", ATTACKS)
def test_nobody_calls_from_anothers_address(caller: str, eve: str, how: str) -> None:
    """An app that may call none gets no answer as one that may."""
    other = own_address("calls-ui")
    assert call(caller, LLM)[0] == 200
    source = (
        "import socket\ns = socket.socket()\ns.settimeout(3)\n" + ATTACKS[how].format(other=other) + "\n"
        "s.connect(('198.18.255.1', 80))\n"
        "s.sendall(b'GET / HTTP/1.1\\r\\nHost: calls-llm.apps.internal\\r\\nX-Flyte-App: calls-ui\\r\\n\\r\\n')\n"
        "result = s.recv(999).decode()"
    )
    said = do(eve, source)
    assert "200 OK" not in said
    assert "Error" in said or "timed out" in said or "HTTP/1.1 403" in said, said


def test_the_router_believes_no_address_but_the_apps_own(caller: str, eve: str) -> None:
    """Also if an app could give itself the address of another one, for which it has no right."""
    other = own_address("calls-ui")
    assert call(eve, LLM)[0] == 0
    pid = next(iter(processes(unit("calls-eve"))))
    host = "Host: calls-llm.apps.internal"
    enter = ["nsenter", f"--target={pid}", "--net"]
    subprocess.run([*enter, "ip", "address", "add", f"{other}/32", "dev", "eth0"], check=True)
    try:
        done = subprocess.run(
            [*enter, "curl", "-sS", "--interface", other, "--connect-timeout", "3", "-H", host, f"http://{CALLS}/"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 28, (done.stdout, done.stderr)
        assert call(caller, LLM)[0] == 200
    finally:
        subprocess.run([*enter, "ip", "address", "del", f"{other}/32", "dev", "eth0"], check=True)


def test_an_app_gets_no_other_address_of_its_own(eve: str) -> None:
    """By netlink, ioctl or a raw socket; and there is no IPv6 beside it."""
    other = own_address("calls-ui")
    netlink = (
        "import socket, struct\ns = socket.socket(16, 3, 0)\ns.bind((0, 0))\n"
        "body = struct.pack('=BBBBI', 2, 32, 0, 0, socket.if_nametoindex('eth0'))\n"
        f"body += struct.pack('=HH4s', 8, 2, socket.inet_aton({other!r}))\n"
        "s.send(struct.pack('=IHHII', 16 + len(body), 20, 0x605, 1, 0) + body)\n"
        "result = struct.unpack_from('=i', s.recv(999), 16)[0]"
    )
    assert do(eve, netlink) == "-1", "EPERM"
    assert "PermissionError" in do(eve, "import socket\nsocket.socket(2, 3, 255)")
    assert "OSError(97" in do(eve, "import socket\nsocket.socket(17, 3, 3)"), "EAFNOSUPPORT"
    assert "Error" in do(eve, "import socket\nsocket.create_connection(('::ffff:198.18.255.1', 81), 3)")
    assert "Error" in do(eve, "import socket\nsocket.create_connection(('fe80::1%eth0', 80), 3)")


def test_an_address_is_nobodys_after_its_app(llm: str) -> None:
    """A later app that has it has none of the former one's rights."""
    assert llm
    url = serve("calls-former", port_server(), "--may-call", "calls-llm")
    assert call(url, LLM)[0] == 200
    former = own_address("calls-former")
    number = next(n for n in range(1024, 2048) if address(n) == former)
    alice("flytectl", "app", "delete", "--yes", "calls-former")
    until(lambda: not Path("/run/flyted/calls/calls-former-r1-0.number").exists())
    url = serve("calls-later", port_server(), "--may-call", "calls-absent")
    assert own_address("calls-later") == address(number), "the lowest that is free"
    assert call(url, f"http://{CALLS}/", headers={"Host": "calls-llm.apps.internal"})[0] == 403


def test_nothing_but_calls_is_there(caller: str) -> None:
    """Not the API, the login, the other ports of the machine, or its loopback."""
    for host in ("flyted.localhost", "calls-llm.apps.localhost", "flyted.apps.localhost", "localhost"):
        status, said = call(caller, f"http://{CALLS}/login", headers={"Host": host})
        assert (status, "http://NAME.apps.internal" in said) == (421, True), host
    for port in (443, 8080, 22, 81):
        assert "Error" in do(caller, f"import socket\nsocket.create_connection(({CALLS!r}, {port}), 3)")
    assert "ConnectionRefusedError" in do(caller, "import socket\nsocket.create_connection(('127.0.0.1', 443), 3)")
    status, said = call(caller, LLM, headers={"Accept": "application/json", "X-Flyte-App": "root"})
    assert status == 200


@pytest.mark.parametrize("user", ["alice", "mallory", "root"])
def test_the_machines_users_do_not_reach_it(caller: str, user: str) -> None:
    """There is no such address in the machine's network: whoever answers there, it is not the ingress."""
    assert call(caller, LLM)[0] == 200
    host = "Host: calls-llm.apps.internal"
    done = by(user, "curl", "-sS", "-i", "--connect-timeout", "2", "-m", "4", "-H", host, f"http://{CALLS}/")
    assert "calls-llm" not in done.stdout + done.stderr
    assert "apps.internal" not in done.stdout
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    assert "198.18." not in listening
    route = subprocess.run(["ip", "route", "get", CALLS], capture_output=True, text=True, check=False).stdout
    assert not route or " via " in route, "neither its own address, nor that of a network that it has"


def test_apps_that_may_call_none_take_few_places(caller: str, eve: str) -> None:
    """The others are those of callers."""
    source = (
        "import socket\nheld = []\ntry:\n    while len(held) < 100:\n"
        f"        held.append(socket.create_connection(({CALLS!r}, 80), 3))\n"
        "except OSError:\n    pass\nresult = str(len(held))"
    )
    assert do(eve, source) == "'16'"
    assert call(caller, LLM)[0] == 200


def test_a_router_that_begins_opens_no_port_that_was_closed(caller: str) -> None:
    """flyted(8) says how an operator closes the ingress."""
    sockets = ("flyted-calls.socket", "flyted-ingress.socket")
    assert call(caller, LLM)[0] == 200
    try:
        must("systemctl", "stop", "flyted.service", *sockets, "flyted-ingress.service")
        must("systemctl", "restart", "flyted-net.service")
        for name in sockets:
            done = subprocess.run(["systemctl", "is-active", name], capture_output=True, text=True, check=False)
            assert done.stdout == "inactive\n"
    finally:
        must("systemctl", "start", "flyted.service")  # which opens the ingress's ports
    until(lambda: call(caller, LLM)[0] == 200)
