"""Descriptors that come with a request: a client may lie about them, send too many or leave; none is ever leaked."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.contract import client, wire
from flyted.contract.answers.machine import Done
from flyted.contract.bundles import MOST
from flyted.contract.errors import InvalidInput, ProtocolMismatch
from flyted.contract.version import PROTOCOL
from flyted.daemon.api.verbs import Call, Right, Verb
from tests.daemon.sockets import Sockets

pytestmark = pytest.mark.slow


async def done(_call: Call) -> Done:
    """Takes what came."""
    return Done()


async def broken(_call: Call) -> Done:
    """Has a fault of ours."""
    raise ZeroDivisionError


class Daemon(Sockets):
    """The control socket, with verbs of this test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        verbs = {
            "echo": Verb(Right.READ, {"word": str}, done, bulk=True, bundles=True),
            "missing": Verb(Right.READ, {}, done),
            "broken": Verb(Right.READ, {}, broken, bundles=True),
        }
        super().__init__({path: None}, verbs)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running control socket. It ends when it has accepted every connection: one that it drops is an open file."""
    running = Daemon(tmp_path / "control.sock")
    yield running
    with pytest.raises(InvalidInput):
        client.call("none", path=running.path)
    running.stop()


def open_descriptors() -> int:
    """How many this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_too_many_descriptors_are_refused_and_none_leaks(daemon: Daemon) -> None:
    """Descriptors are not memory that a client may fill."""
    count = open_descriptors()
    fd = os.open("/dev/null", os.O_RDONLY)
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as conn:
            conn.connect(str(daemon.path))
            socket.send_fds(conn, [wire.encode_request("missing", {})], [fd] * 50)
            with pytest.raises((ProtocolMismatch, ConnectionResetError)):
                wire.parse_answer(wire.decode(conn.recv(65536)[4:]))
    os.close(fd)
    assert_none_leaked(count)


def assert_none_leaked(count: int) -> None:
    """As many descriptors as before, as soon as the daemon has closed its ends."""
    deadline = time.monotonic() + 3
    while open_descriptors() > count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert open_descriptors() <= count


ONE, TWO = "a" * 64, "b" * 64
BAD: list[tuple[str, list[Any] | Any, int, str]] = [
    ("echo", [ONE], 0, r"1 bundles, but carries 0 file descriptors"),
    ("echo", [ONE], 2, r"1 bundles, but carries 2 file descriptors"),
    ("echo", [], 1, r"0 bundles, but carries 1 file descriptors"),
    ("echo", [ONE, ONE], 2, "names a bundle twice"),
    ("echo", [ONE, "../../etc/shadow"], 2, "by its SHA-256"),
    ("echo", [ONE, 7], 2, "by its SHA-256"),
    ("echo", {"a": 1}, 1, "by its SHA-256"),
    ("echo", [f"{number:064x}" for number in range(MOST + 1)], 0, "33 bundles are too many"),
    ("missing", [ONE], 1, "argument .*bundles.* is not known"),
]


@pytest.mark.parametrize(("verb", "named", "sent", "words"), BAD)
def test_descriptors_that_are_not_what_the_request_names_are_refused(
    daemon: Daemon, verb: str, named: list[Any], sent: int, words: str
) -> None:
    """Before any handler sees them, in words, and all are closed."""
    count = open_descriptors()
    fd = os.memfd_create("x")
    args = {"word": "w", "bulk": 0, "bundles": named} if verb == "echo" else {"bundles": named}
    with socket.socket(socket.AF_UNIX) as conn:
        conn.connect(str(daemon.path))
        data = wire.encode({"v": PROTOCOL, "verb": verb, "args": args})
        socket.send_fds(conn, [data], [fd] * sent) if sent else conn.sendall(data)
        with pytest.raises(InvalidInput, match=words):
            wire.parse_answer(wire.decode(conn.recv(65536)[4:]))
    os.close(fd)
    assert_none_leaked(count)


def test_descriptors_of_a_client_that_leaves_or_sends_nonsense_are_closed(daemon: Daemon) -> None:
    """In the middle of a request, in a request that never ends, beside garbage, and when a handler fails."""
    count = open_descriptors()
    fd = os.memfd_create("x")
    whole = wire.encode_request("echo", {"word": "w"}, bulk=b"x" * 9, bundles=[ONE, TWO])
    broken = wire.encode_request("broken", {}, bundles=[ONE, TWO])
    for data in (whole[:3], whole[:20], whole, b"\xff" * 9, broken):
        with socket.socket(socket.AF_UNIX) as conn:
            conn.connect(str(daemon.path))
            socket.send_fds(conn, [data], [fd, fd])
    os.close(fd)
    assert_none_leaked(count)


def test_a_client_names_too_many_bundles_itself(daemon: Daemon) -> None:
    """It is told before anything is sent, and how to have fewer."""
    with pytest.raises(InvalidInput, match="33 bundles are too many") as raised:
        client.call("echo", {"word": "w"}, bundles={f"{n:064x}": 0 for n in range(MOST + 1)}, path=daemon.path)
    assert "copy fewer files" in raised.value.hint
