"""The output of an image build: while it runs, after it, and for how long a client may read it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import identifier_pb2
from flyteidl2.dataproxy import dataproxy_service_pb2 as data
from flyteidl2.logs.dataplane import payload_pb2 as lines
from flyteidl2.workflow import run_service_pb2 as runs

from flyted.contract.errors import BuildFailed, FlytedError, Unauthenticated
from flyted.gateway.services import build_log, jobs
from tests.gateway.clients import ask, first, service
from tests.gateway.harness import Running
from tests.gateway.test_images import BUILT, NAME, PIP, create, keep, spec

pytestmark = pytest.mark.slow


def begun(gateway: Running, *said: str | float, end: dict[str, Any] | FlytedError = BUILT) -> Any:
    """A build that says these lines, with pauses in seconds between them, and then ends; its action."""

    def script(args: dict[str, Any], bulk: bytes, file: bytes) -> Iterator[dict[str, Any]]:
        yield {"event": {"kind": "accepted", "text": "checked"}}
        for each in said:
            if isinstance(each, str):
                yield {"event": {"kind": "build", "text": each}}
            else:
                time.sleep(each)
        yield {"error": end.to_wire()} if isinstance(end, FlytedError) else end

    gateway.flyted.scripts["image.build"] = script
    return create(gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=NAME)


def tail(gateway: Running, action: identifier_pb2.ActionIdentifier, count: int = 999) -> list[Any]:
    """The first answers of a build's log."""
    proxy = service(gateway, "dataproxy.dataproxy_service_connect", "DataProxyService")
    return first(proxy.tail_logs, data.TailLogsRequest(action_id=action, attempt=1), count)


def said(answers: list[Any]) -> list[str]:
    return [line.message for answer in answers for logs in answer.logs for line in logs.lines]


def test_lines_come_while_the_build_runs(gateway: Running) -> None:
    """Each ends as the SDK needs it, since it prints them one after the other as they are, and has its time."""
    action = begun(gateway, "first", 0.5, "second", 3.0)
    answers = tail(gateway, action.id, 2)
    assert said(answers) == ["first\n", "second\n"]
    (before,), (after,) = ([line.timestamp.ToMicroseconds() for line in each.logs[0].lines] for each in answers)
    assert 0.3e6 < after - before < 10e6
    assert abs(before / 1e6 - time.time()) < 30


def test_the_log_ends_with_the_build(gateway: Running) -> None:
    """And is there afterwards, too; the SDK asks for it since the details say so."""
    action = begun(gateway, 0.3, "only")
    assert said(tail(gateway, action.id)) == said(tail(gateway, action.id)) == ["only\n"]
    details = ask(
        service(gateway, "workflow.run_service_connect", "RunService").get_action_details,
        runs.GetActionDetailsRequest(action_id=action.id),
    ).details
    assert details.attempts[0].logs_available


def test_the_last_lines_say_why_it_failed(gateway: Running) -> None:
    """They are flyted's own, so a client can leave them out."""
    action = begun(gateway, "only", end=BuildFailed("commands: exit status 1\n  no such file"))
    found = [line for answer in tail(gateway, action.id) for logs in answer.logs for line in logs.lines]
    assert [(line.message, line.originator) for line in found] == [
        ("only\n", lines.USER), ("commands: exit status 1\n", lines.SYSTEM), ("  no such file\n", lines.SYSTEM),
    ]  # fmt: skip


def test_no_line_moves_the_cursor(gateway: Running) -> None:
    """What a step prints is a stranger's, and the SDK prints it as it is."""
    action = begun(gateway, "\x1b[2Jgone\ta\u202eb")
    assert said(tail(gateway, action.id)) == [" [2Jgone        a b\n"]


def test_the_last_lines_are_kept(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, in more answers than one, and after a restart of the gateway."""
    monkeypatch.setattr(jobs, "LINES", 5)
    monkeypatch.setattr(build_log, "BATCH", 2)
    action = begun(gateway, *map(str, range(9)))
    expected = [f"{each}\n" for each in range(4, 9)]
    tail(gateway, action.id)
    answers = tail(gateway, action.id)
    assert (said(answers), len(answers)) == (expected, 3)
    gateway.parts.jobs._runs.clear()  # as a new process
    assert said(tail(gateway, action.id)) == expected


def test_a_silent_build_keeps_its_reader(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty answer comes in time; but not to who has lost the right to read, whose stream ends."""
    monkeypatch.setattr(build_log, "QUIET_S", 0.2)
    action = begun(gateway, "only", 4.0)
    answers = tail(gateway, action.id, 3)
    assert said(answers) == ["only\n"]
    assert [len(answer.logs) for answer in answers] == [1, 0, 0]
    threading.Timer(
        0.5, lambda: gateway.flyted.answers("whoami", Unauthenticated("this token is no longer valid"))
    ).start()
    with pytest.raises(ConnectError) as raised:
        tail(gateway, action.id)
    assert raised.value.code is Code.UNAUTHENTICATED


def test_what_is_no_build_has_no_log(gateway: Running) -> None:
    """The SDK waits a little for it, by this code."""
    unknown = identifier_pb2.ActionIdentifier(run=identifier_pb2.RunIdentifier(name="r1"), name="a0")
    with pytest.raises(ConnectError) as raised:
        tail(gateway, unknown)
    assert raised.value.code is Code.NOT_FOUND
