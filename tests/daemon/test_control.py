"""The control socket, over a real socket: rights, arguments, limits, and clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flyted.contract import client, wire
from flyted.contract.answers.codec import Answer
from flyted.contract.answers.events import BUILD, STEP, Event, Progress
from flyted.contract.answers.machine import Done
from flyted.contract.bundles import MOST
from flyted.contract.errors import (
    Busy,
    Cancelled,
    InvalidInput,
    PermissionRefused,
    ProtocolMismatch,
    SecretNotFound,
)
from flyted.daemon.api import connection
from flyted.daemon.api.actor import Actor
from flyted.daemon.api.verbs import Call, Right, Verb
from flyted.host import people
from flyted.plan import crowd as crowd_plan
from flyted.plan.crowd import CONTROL
from tests.daemon.sockets import Sockets

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Echo(Answer):
    """What came with a request."""

    args: dict[str, Any]
    bulk: int
    files: dict[str, bytes]


async def echo(call: Call) -> Echo:
    """Answers with what it was given."""
    await call.emit(Progress(STEP, "working"))
    files = {digest: os.pread(fd, 100, 0) for digest, fd in call.bundles.items()}
    return Echo(call.args, len(call.bulk), files)


async def missing(_call: Call) -> Done:
    """Fails as a handler may."""
    raise SecretNotFound("no 'K'", hint="flytectl secret create K")


async def broken(_call: Call) -> Done:
    """Has a fault of ours."""
    raise ZeroDivisionError("secret-value-in-a-traceback")


class Daemon(Sockets):
    """The control socket, with verbs of this test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ended = threading.Event()
        self.noted = 0
        verbs = {
            "echo": Verb(Right.READ, {"word": str}, echo, bulk=True, bundles=True),
            "missing": Verb(Right.READ, {}, missing),
            "broken": Verb(Right.READ, {}, broken),
            "admin": Verb(Right.ADMIN, {}, missing),
            "note": Verb(Right.READ, {}, self.note),
            "chatter": Verb(Right.READ, {}, self.chatter),
            "follow": Verb(Right.READ, {}, self.follow, until_gone=True),
        }
        super().__init__({path: None}, verbs)

    async def note(self, _call: Call) -> Done:
        """Counts how often it was asked."""
        self.noted += 1
        return Done()

    async def chatter(self, call: Call) -> Done:
        """Tells more than a socket holds, line by line."""
        for _ in range(50):
            await call.emit(Progress(BUILD, "x" * 50_000))
        self.ended.set()
        return Done()

    async def follow(self, call: Call) -> Done:
        """Never ends by itself; tells when it was ended."""
        await call.emit(Progress(STEP, "following"))
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return Done()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running control socket."""
    running = Daemon(tmp_path / "control.sock")
    yield running
    running.stop()


def test_a_verb_with_bulk_descriptor_and_events(daemon: Daemon) -> None:
    """Arguments, raw bytes and open files arrive, as many as may; progress comes back before the result."""
    fds = {f"{number:064x}": os.memfd_create("x") for number in range(MOST)}
    for digest, fd in fds.items():
        os.write(fd, digest.encode())
    events: list[Event] = []
    answer = client.call(
        "echo", {"word": "w"}, bulk=b"x" * 100_000, bundles=fds, on_event=events.append, path=daemon.path
    )
    assert answer["args"] == {"word": "w", "bulk": 100_000, "bundles": list(fds)}
    assert (answer["bulk"], answer["files"]) == (100_000, {digest: digest.encode() for digest in fds})
    assert events == [Progress(STEP, "working")]
    for fd in fds.values():
        os.close(fd)


def test_a_handlers_error_arrives_as_it_was_raised(daemon: Daemon) -> None:
    """Type, message and hint."""
    with pytest.raises(SecretNotFound, match="no 'K'") as caught:
        client.call("missing", path=daemon.path)
    assert caught.value.hint == "flytectl secret create K"


def test_a_fault_of_ours_tells_nothing_of_itself(daemon: Daemon) -> None:
    """No traceback and no value reaches a client."""
    with pytest.raises(Exception, match="internal error") as caught:
        client.call("broken", path=daemon.path)
    assert "secret-value" not in str(caught.value)


NOTHING: dict[str, Any] = {"bulk": 0, "bundles": []}


@pytest.mark.parametrize(
    ("verb", "args"),
    [("nosuch", {}), ("echo", {}), ("echo", {"word": 1, **NOTHING}), ("echo", {"word": "w", "more": 1, **NOTHING})],
)
def test_unknown_verbs_and_wrong_arguments_are_refused(daemon: Daemon, verb: str, args: dict[str, Any]) -> None:
    """Before any handler sees them."""
    with pytest.raises(InvalidInput):
        client.call(verb, args, path=daemon.path)


def test_admin_is_for_root(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says who calls; a member of the group is not root."""
    monkeypatch.setattr(Actor, "root", property(lambda _: False))
    with pytest.raises(PermissionRefused):
        client.call("admin", path=daemon.path)


def test_a_client_of_another_version_is_told_so(daemon: Daemon) -> None:
    """And not misunderstood."""
    with socket.socket(socket.AF_UNIX) as conn:
        conn.connect(str(daemon.path))
        conn.sendall(wire.encode({"v": 99, "verb": "echo", "args": {}}))
        head = conn.recv(4)
        with pytest.raises(ProtocolMismatch, match="protocol"):
            wire.parse_answer(wire.decode(conn.recv(wire.length(head, wire.ANSWER_LIMIT))))


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x05hello", b"\x00\x00\x00\x00", b"GET / HTTP/1.1\r\n\r\n"]
)
def test_garbage_gets_one_error_and_is_cut(daemon: Daemon, data: bytes) -> None:
    """Then the connection is closed."""
    with socket.socket(socket.AF_UNIX) as conn:
        conn.connect(str(daemon.path))
        conn.sendall(data)
        got = b""
        with contextlib.suppress(ConnectionResetError):  # it did not read on after the error
            while chunk := conn.recv(65536):
                got += chunk
    with pytest.raises(ProtocolMismatch):
        wire.parse_answer(wire.decode(got[4:]))


def test_one_byte_a_second_gets_nowhere(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole request must come within the time; then the slow client is told and cut."""
    monkeypatch.setattr(connection, "REQUEST_TIME_S", 0.3)
    with socket.socket(socket.AF_UNIX) as conn:
        conn.connect(str(daemon.path))
        conn.sendall(b"\x00")
        began = time.monotonic()
        assert conn.recv(65536)
        assert time.monotonic() - began < 3


def test_two_hundred_idle_connections_lock_nobody_out(daemon: Daemon) -> None:
    """Somebody who only sits there makes room for the next one; memory stays flat."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    idle = [socket.socket(socket.AF_UNIX) for _ in range(200)]
    for conn in idle:
        conn.connect(str(daemon.path))
    began = time.monotonic()
    with pytest.raises(SecretNotFound):
        client.call("missing", path=daemon.path)
    assert time.monotonic() - began < 1
    for conn in idle:
        conn.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10


@pytest.fixture
def uid(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Who connects from now on, as the kernel would say it. All are accounts of this machine."""
    who = [1000]
    monkeypatch.setattr(connection, "Actor", lambda _uid, pid: Actor(who[0], pid))
    monkeypatch.setattr(people, "is_account", lambda uid: uid < SUBORDINATE)
    return who


SUBORDINATE = 100_000
"""From here on uids are those that users give to their user namespaces, subuid(5)."""


@contextlib.contextmanager
def crowd(daemon: Daemon) -> Iterator[Callable[[], int]]:
    """Follows, for as long as it is let, for whoever connects; returns how often that was."""
    with contextlib.ExitStack() as open_:

        def follow() -> int:
            count = 0
            while True:
                conn = open_.enter_context(socket.socket(socket.AF_UNIX))
                conn.connect(str(daemon.path))
                with contextlib.suppress(BrokenPipeError):
                    conn.sendall(wire.encode_request("follow", {}))
                answer = conn.recv(65536)
                if b"open already, the current limit" in answer or b"too many clients" in answer:
                    return count
                count += 1

        yield follow


def test_users_who_follow_all_they_can_lock_nobody_else_out(daemon: Daemon, uid: list[int]) -> None:
    """Each follow waits for ever. What there is is shared; who has nothing open gets in, and so does root."""
    with crowd(daemon) as follow:
        took = []
        for uid[0] in range(1000, 1012):
            took.append(follow())
            said = "1 request" if took[-1] == 1 else f"{took[-1]} requests"
            with pytest.raises(Busy, match=f"you have {said} open"):
                client.call("missing", path=daemon.path)
            for someone in (2000, 0):
                uid[:] = [someone]
                with pytest.raises(SecretNotFound):
                    client.call("missing", path=daemon.path)
        assert took[0] == CONTROL.of_a_user
        assert min(took) >= 1


def test_the_users_of_a_namespace_are_one(daemon: Daemon, uid: list[int]) -> None:
    """A member may have thousands of them: together they have one user's places."""
    with crowd(daemon) as follow:
        took = []
        for uid[0] in range(SUBORDINATE, SUBORDINATE + 20):
            took.append(follow())
        assert sum(took) == CONTROL.of_a_user
        uid[0] = 1000
        with pytest.raises(SecretNotFound):
            client.call("missing", path=daemon.path)


def test_requests_are_bounded_by_what_they_take_of_memory(
    daemon: Daemon, uid: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before they are read: a long one is refused where it would be too much, and others come in."""
    monkeypatch.setattr(crowd_plan.may_hold, "__defaults__", (64 << 10,))
    with pytest.raises(Busy, match="too large in total"):
        client.call("echo", {"word": "w" * 3000}, bulk=b"", bundles={}, path=daemon.path)
    with pytest.raises(Busy, match="too large in total"):
        client.call("echo", {"word": "w"}, bulk=b"x" * (65 << 10), bundles={}, path=daemon.path)
    assert client.call("echo", {"word": "w"}, bulk=b"x" * 1000, bundles={}, path=daemon.path)["bulk"] == 1000
    uid[0] = 0
    assert client.call("echo", {"word": "w" * 3000}, bulk=b"x" * (65 << 10), bundles={}, path=daemon.path)


def test_who_reads_nothing_is_waited_for_once(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is to tell: others may share the work that tells it."""
    monkeypatch.setattr(connection, "ANSWER_TIME_S", 0.3)
    began = time.monotonic()
    with socket.socket(socket.AF_UNIX) as conn:
        conn.connect(str(daemon.path))
        conn.sendall(wire.encode_request("chatter", {}))
        assert daemon.ended.wait(10)
    assert time.monotonic() - began < 2


def test_a_follower_that_leaves_ends_its_work(daemon: Daemon) -> None:
    """Nothing is followed for nobody."""
    with socket.socket(socket.AF_UNIX) as conn:
        conn.connect(str(daemon.path))
        conn.sendall(wire.encode_request("follow", {}))
        assert not daemon.ended.wait(0.2)
    assert daemon.ended.wait(5)


def test_who_leaves_and_listens_is_told_that_its_work_was_ended(daemon: Daemon) -> None:
    """It has closed its own side only, as flytectl does at Ctrl-C: there is one last frame, then the end."""
    with socket.socket(socket.AF_UNIX) as conn:
        conn.connect(str(daemon.path))
        conn.sendall(wire.encode_request("follow", {}))
        conn.recv(1, socket.MSG_PEEK)
        conn.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: conn.recv(4096), b""))
    (size,) = wire.HEAD.unpack_from(said)
    with pytest.raises(Cancelled):
        wire.parse_answer(wire.decode(said[2 * wire.HEAD.size + size :], trusted=True))
    assert daemon.ended.is_set()


def test_what_a_client_asked_who_gave_up_before_it_was_heard_is_not_begun(daemon: Daemon) -> None:
    """It was told that flyted does not answer: a deletion must not come of that when flyted is back."""
    heard = threading.Event()
    daemon.loop.call_soon_threadsafe(heard.wait)  # a daemon that hangs
    with socket.socket(socket.AF_UNIX) as conn:
        conn.connect(str(daemon.path))
        conn.sendall(wire.encode_request("note", {}))
    heard.set()
    client.call("echo", {"word": "w"}, bulk=b"b", bundles={}, path=daemon.path)
    assert daemon.noted == 0
    client.call("note", path=daemon.path)
    assert daemon.noted == 1
