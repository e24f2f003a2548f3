"""AppLogsService: lines with their time and origin, as they come; an end for each stream."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.app import app_logs_payload_pb2 as pb
from flyteidl2.logs.dataplane import payload_pb2 as lines

from flyted.contract.errors import Unauthenticated
from flyted.gateway.caller import Caller, enter
from flyted.gateway.daemon import Daemon
from flyted.gateway.services.logs import Logs
from flyted.plan.crowd import FOLLOWED
from tests.gateway.clients import first, service
from tests.gateway.described import app
from tests.gateway.harness import NO_APP, TOKEN, WHO, Running

pytestmark = pytest.mark.slow


def tail(gateway: Running, count: int) -> list[Any]:
    logs = service(gateway, "app.app_logs_service_connect", "AppLogsService")
    answers = first(logs.tail_logs, pb.TailLogsRequest(app_id=app().metadata.id), count)
    return [line for answer in answers for line in answer.batches.logs[0].structured_lines]


def event(text: str, source: str = "app") -> dict[str, Any]:
    return {"event": {"kind": "log", "time": 1_700_000_000_123_456, "revision": 1, "source": source, "text": text}}


def test_lines_keep_their_time_and_origin(gateway: Running) -> None:
    """The SDK tells lines that it has seen by their time, and colours systemd's own."""
    gateway.flyted.answers("app.logs", event("hello"), event("Started.", "systemd"), {"result": {}})
    found = tail(gateway, 99)
    assert [(line.message, line.originator) for line in found] == [("hello", lines.USER), ("Started.", lines.SYSTEM)]
    assert found[0].timestamp.ToMicroseconds() == 1_700_000_000_123_456
    args = gateway.flyted.calls[-1][1]
    assert (args["name"], args["follow"]) == ("hello", True)


def test_a_client_that_leaves_ends_what_flyted_does_for_it(gateway: Running) -> None:
    """Within moments, not at the next line: an app may be silent for hours."""
    gone = threading.Event()

    def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        yield event("only line")
        try:
            for _ in range(300):
                time.sleep(0.1)
                yield {"event": {"kind": "progress", "text": ""}}
        finally:
            gone.set()

    gateway.flyted.scripts["app.logs"] = script
    assert [line.message for line in tail(gateway, 1)] == ["only line"]
    assert gone.wait(10)


def test_a_token_that_is_revoked_ends_the_stream(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within seconds, although the stream began with a good one."""
    monkeypatch.setattr("flyted.gateway.services.logs.CHECK_S", 0.2)

    def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        yield event("only line")
        gateway.flyted.answers("whoami", Unauthenticated("this token is not valid, or no longer valid"))
        for _ in range(300):
            time.sleep(0.1)
            yield {"event": {"kind": "progress", "text": ""}}

    gateway.flyted.scripts["app.logs"] = script
    with pytest.raises(ConnectError) as raised:
        tail(gateway, 2)
    assert raised.value.code is Code.UNAUTHENTICATED


def test_a_gateway_that_stops_ends_its_streams(gateway: Running) -> None:
    """At once: an upgrade waits for no followed log."""
    began = threading.Event()

    def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        yield event("only line")
        began.set()
        for _ in range(300):
            time.sleep(0.1)
            yield {"event": {"kind": "progress", "text": ""}}

    gateway.flyted.scripts["app.logs"] = script
    follower = threading.Thread(target=lambda: tail(gateway, 2))
    follower.start()
    assert began.wait(10)
    started = time.monotonic()
    gateway.stop()
    follower.join(10)
    assert not follower.is_alive()
    assert time.monotonic() - started < 5


def test_an_app_that_is_not_there_has_no_log(gateway: Running) -> None:
    """The SDK waits a little for it, by this code."""
    gateway.flyted.answers("app.logs", NO_APP)
    with pytest.raises(ConnectError) as raised:
        tail(gateway, 1)
    assert raised.value.code is Code.NOT_FOUND


def test_one_users_logs_leave_room_for_anothers(gateway: Running) -> None:
    """Each has their share, as in flyted: alice alone could follow all that there were."""
    may_end = threading.Event()

    def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        yield event("only line")
        for _ in range(300):
            if may_end.wait(0.1):
                break
            yield {"event": {"kind": "progress", "text": ""}}
        yield {"result": {}}

    gateway.flyted.scripts["app.logs"] = script
    refused: list[Code] = []

    def follow() -> None:
        try:
            tail(gateway, 2)
        except ConnectError as error:
            refused.append(error.code)

    followers = [threading.Thread(target=follow) for _ in range(FOLLOWED.of_a_user + 2)]
    for follower in followers:
        follower.start()
    until = time.monotonic() + 20
    while len(refused) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert refused == [Code.RESOURCE_EXHAUSTED] * 2
    gateway.flyted.answers("whoami", {"result": {**WHO, "user": "bob", "uid": 1001}})
    assert [line.message for line in tail(gateway, 1)] == ["only line"]
    may_end.set()
    for follower in followers:
        follower.join(10)
    assert len(refused) == 2


def test_a_stream_that_is_cancelled_leaves_no_task(gateway: Running) -> None:
    """Not the one that waits for the next line either: asyncio would complain of it, in the journal."""
    began = threading.Event()

    def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        yield event("only line")
        for _ in range(300):
            began.set()
            time.sleep(0.1)
            yield {"event": {"kind": "progress", "text": ""}}

    gateway.flyted.scripts["app.logs"] = script

    async def follow() -> set[asyncio.Task[Any]]:
        who = Caller(token=TOKEN, uid=1000)
        enter(who)
        stream = Logs(dataclasses.replace(gateway.parts, daemon=Daemon(gateway.flyted.path)))._batches({}, who)
        assert [line.text for line in await anext(stream)] == ["only line"]
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(follow()) == set()
