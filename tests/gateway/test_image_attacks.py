"""Clients that attack the image builder: crowds of calls, builds that are left, and output that lies."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from flyteidl2.common import phase_pb2
from flyteidl2.dataproxy import dataproxy_service_pb2 as data
from flyteidl2.workflow import run_service_pb2 as runs

from flyted.contract.bundles import MOST
from flyted.contract.errors import BuildFailed, Busy, InvalidInput, Unauthenticated
from flyted.gateway import app
from flyted.gateway.__main__ import AT_ONCE
from flyted.gateway.app import CALLS
from flyted.gateway.daemon import LONG
from flyted.gateway.files import context
from flyted.gateway.files.folders import Folders
from flyted.gateway.limits import GROWN, MESSAGE_BYTES, BoundedGzip, inflate
from flyted.gateway.services import build_log, jobs
from flyted.gateway.services import runs as runs_module
from flyted.gateway.services.runs import Runs
from flyted.plan.crowd import Room
from flyted.plan.ingress import config
from tests.gateway.clients import HEADERS
from tests.gateway.harness import WHO, Running
from tests.gateway.test_build_logs import begun, said, tail
from tests.gateway.test_folders import COPY
from tests.gateway.test_garbage import proto, send
from tests.gateway.test_images import (
    NAME,
    PIP,
    archive,
    building,
    create,
    create_request,
    details_of,
    keep,
    proxy,
    run_service,
    spec,
    watched,
)

pytestmark = pytest.mark.slow

RUN = "/flyteidl2.workflow.RunService/CreateRun"
UNIT = Path(__file__).parents[2] / "units/flyted-gateway.service"


def test_a_message_of_very_many_gzip_members_is_refused() -> None:
    """Each of them copies the rest: 4 MiB of them stopped the gateway for half a minute."""
    assert inflate(gzip.compress(b"ab") * 16, 100) == b"ab" * 16
    with pytest.raises(ConnectError, match="compressed in more than 16 pieces"):
        BoundedGzip().decompress(gzip.compress(b"") * 17)
    with pytest.raises(ConnectError, match="its gzip data ends early"):
        BoundedGzip().decompress(gzip.compress(b"ab")[:-3])
    with pytest.raises(ConnectError, match="not gzip data"):
        BoundedGzip().decompress(b"PK\x03\x04")


def test_messages_in_progress_are_bounded_together(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """For one user; another has room, and so has the first again when the call has ended.

    Two million empty inputs are 4 KiB in gzip, and took 140 MiB for as long as their call waited.
    """
    monkeypatch.setattr(gateway.app._services._memory, "_most", 5 * GROWN * MESSAGE_BYTES // 2)
    bomb = gzip.compress(b"\x12\x00" * (MESSAGE_BYTES // 2 - 1000))
    assert len(bomb) < 4096
    held, may_end = threading.Event(), threading.Event()

    async def slow(*_: object, **__: object) -> None:
        if not held.is_set():
            held.set()
            await asyncio.to_thread(may_end.wait, 30)
        raise InvalidInput("read")

    monkeypatch.setattr(Runs, "create_run", slow)

    def sent() -> str:
        return str(send(gateway, RUN, bomb, proto(**{"Content-Encoding": "gzip"}))[1]["message"])

    waiting = threading.Thread(target=sent)
    waiting.start()
    assert held.wait(30)
    assert "are too large in total" in sent()
    gateway.flyted.answers("whoami", {"result": {**WHO, "uid": 2000}})
    assert sent() == "read"
    may_end.set()
    waiting.join(30)
    gateway.flyted.answers("whoami", {"result": WHO})
    assert sent() == "read"


def test_calls_in_progress_are_one_users_own_problem(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows one build with very many streams is refused further calls; another user is answered.

    The gateway once refused calls above 256 of all users together. When the streams' clients leave, all is as before.
    """
    monkeypatch.setattr(gateway.app._calls, "_room", Room(users=9, shared=9, of_a_user=4))
    action = begun(gateway, "only", 20.0)

    async def scene() -> None:
        streams = [asyncio.create_task(followed(gateway, action.id)) for _ in range(4)]
        await asyncio.gather(*(each for each in streams))
        with pytest.raises(ConnectError, match="too many calls to flyted in progress") as raised:
            await details(gateway, action.id)
        assert raised.value.code is Code.UNAVAILABLE
        with pytest.raises(ConnectError, match="too many calls") as raised:
            await followed(gateway, action.id)
        assert raised.value.code is Code.UNAVAILABLE
        gateway.flyted.answers("whoami", {"result": {**WHO, "uid": 2000}})
        await details(gateway, action.id)
        gateway.flyted.answers("whoami", {"result": WHO})
        for each in streams:
            await each.result().aclose()
        for _ in range(600):
            if gateway.app._calls.free(1000):
                break
            await asyncio.sleep(0.05)
        await details(gateway, action.id)

    asyncio.run(scene())


def test_calls_whose_token_is_not_checked_yet_are_bounded(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends very many bad tokens has others wait for a bounded time, and is refused beyond that."""
    monkeypatch.setattr(app, "UNKNOWN", 3)

    async def scene() -> None:
        never = asyncio.Event()
        monkeypatch.setattr(gateway.app._parts.daemon, "whose", lambda _token: never.wait())
        waiting = [asyncio.create_task(gateway.app._check("x")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="too many new calls at once"):
            await gateway.app._check("x")
        waiting.pop().cancel()
        await asyncio.sleep(0.01)
        waiting.append(asyncio.create_task(gateway.app._check("x")))
        await asyncio.sleep(0.01)
        assert not waiting[-1].done()
        never.set()
        await asyncio.gather(*waiting)
        assert gateway.app._unknown == 0

    asyncio.run(scene())


async def followed(gateway: Running, action: Any) -> Any:
    """A stream of a build's log that has begun."""
    stream = proxy(gateway).tail_logs(data.TailLogsRequest(action_id=action, attempt=1), headers=HEADERS)
    await anext(stream)
    return stream


async def details(gateway: Running, action: Any) -> None:
    await run_service(gateway).get_action_details(runs.GetActionDetailsRequest(action_id=action), headers=HEADERS)


def test_the_gateway_has_a_file_and_a_connection_for_each_call() -> None:
    """A build has its bundles open while it waits for its turn."""
    text = UNIT.read_text()
    (files,) = re.findall(r"^LimitNOFILE=(\d+)$", text, re.MULTILINE)
    assert int(files) > (CALLS.most + LONG.most) * (MOST + 2) + AT_ONCE
    assert config.CONNECTIONS < AT_ONCE


def test_who_may_only_read_has_no_file_read(gateway: Running) -> None:
    """A build's context is unpacked, and its bundles push out those of others, before flyted is asked."""
    given = {"spec": keep(gateway, "spec.pb", spec(COPY)), "target_image": NAME,
             "context": keep(gateway, "context.tar.gz", archive({"src/a": b"x"}))}  # fmt: skip
    gateway.flyted.answers("whoami", {"result": {**WHO, "rights": ["read"]}})
    with pytest.raises(ConnectError) as raised:
        create(gateway, **given)
    assert raised.value.code is Code.PERMISSION_DENIED
    assert list((gateway.state / "folders").iterdir()) == []


@pytest.mark.parametrize("gone", ["spec.pb", "context.tar.gz"])
def test_a_file_that_is_gone_when_its_turn_comes(gateway: Running, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    """It is asked for again, and not called a fault of ours or of the disk."""
    given = {"spec": keep(gateway, "spec.pb", spec(COPY)), "target_image": NAME,
             "context": keep(gateway, "context.tar.gz", archive({"src/a": b"x"}))}  # fmt: skip
    whole = context.image_of

    def late(spec: Path, packed: Path, folders: Folders) -> dict[str, Any]:
        (spec if gone == "spec.pb" else packed).unlink()
        return whole(spec, packed, folders)

    monkeypatch.setattr(runs_module, "image_of", late)
    with pytest.raises(ConnectError, match=r"an uploaded file is gone \(hint: serve again\)") as raised:
        create(gateway, **given)
    assert raised.value.code is Code.FAILED_PRECONDITION


def test_a_build_that_runs_is_not_forgotten(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many begin and end meanwhile, who waits for it hears of its end; those that ended are not in memory."""
    monkeypatch.setattr(jobs, "RUNS", 3)
    may_end = building(gateway)
    long = create(gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=NAME)
    building(gateway).set()
    for number in range(6):
        short = create(gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=f"flyte:{number}")
        watched(gateway, short)
    assert list(gateway.parts.jobs._runs) == [long.id.run.name]
    assert len(list((gateway.state / "runs").iterdir())) == 3
    threading.Timer(0.3, may_end.set).start()
    assert watched(gateway, long)[-1].details.status.phase == phase_pb2.ACTION_PHASE_SUCCEEDED
    assert gateway.parts.jobs._runs == {}


def test_an_ended_build_that_cannot_be_stored_is_in_memory(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as few others are."""
    monkeypatch.setattr(jobs, "FEW", 2)
    shutil.rmtree(gateway.state / "runs")
    building(gateway).set()
    made = []
    for number in range(5):
        made.append(create(
            gateway, spec=keep(gateway, "spec.pb", spec(PIP)), context="", target_image=f"flyte:{number}"
        ))  # fmt: skip
        assert watched(gateway, made[-1])[-1].details.status.phase == phase_pb2.ACTION_PHASE_SUCCEEDED
    assert len(gateway.parts.jobs._runs) <= 3
    assert said(tail(gateway, made[-1].id)) == ["layer 1: Resolved 7 packages\n"]


def test_the_output_is_bounded_by_its_characters() -> None:
    """The last lines are kept; a thousand lines of 4096 were 16 MiB in memory, for each of 200 builds."""
    run = jobs.Run("r1", "p", "d", NAME, 0.0)
    for number in range(2000):
        run.hear(f"{number:04}" + "\U0001f600" * 996)
    assert len(run.output) == jobs.CHARACTERS // 1000
    assert run.output[-1][1].startswith("1999")
    assert run.since(1999) == run.output[-1:]
    assert run.since(0) == run.output


def test_no_state_of_a_build_moves_the_cursor(gateway: Running) -> None:
    """As in its log: the last lines of its output are in its details, too, and the reason of its failure."""
    action = begun(gateway, "\x1b]0;gone\x07\ta", end=BuildFailed("\x1b[2Jno\u202e"))
    found = details_of(gateway, action)
    assert found.error_info.message == " ]0;gone        a\n [2Jno "
    assert said(tail(gateway, action.id)) == [" ]0;gone        a\n", " [2Jno \n"]
    with pytest.raises(ConnectError) as raised:
        watched(gateway, action)
    assert all(line.isprintable() for line in raised.value.message.splitlines())


def test_a_reader_who_lags_behind_loses_the_log_with_the_token(
    gateway: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the build never stops to print, so that there is always a next line."""
    monkeypatch.setattr(build_log, "QUIET_S", 0.2)
    action = begun(gateway, "first", 30.0)
    run = gateway.parts.jobs.run(action.id.run.name)

    async def scene() -> int:
        seen = 0
        async for answer in proxy(gateway).tail_logs(data.TailLogsRequest(action_id=action.id), headers=HEADERS):
            seen += len(answer.logs)
            if seen == 3:
                gateway.flyted.answers("whoami", Unauthenticated("this token is no longer valid"))
        return seen

    lines = build_log._answers

    def never_done(new: Any, whose: Any) -> Iterator[Any]:
        yield from lines(new, whose)
        time.sleep(0.05)
        run.hear("more")  # before the gateway looks again

    monkeypatch.setattr(build_log, "_answers", never_done)
    with pytest.raises(ConnectError) as raised:
        asyncio.run(asyncio.wait_for(scene(), 20))
    assert raised.value.code is Code.UNAUTHENTICATED


def test_a_build_whose_client_has_left_before_its_turn_is_not_begun(gateway: Running) -> None:
    """Else who asks for hundreds of builds, and leaves, can call nothing until all of them were made."""
    gateway.parts.daemon._long._room = Room(users=1, shared=0, of_a_user=1)
    may_end = building(gateway)
    given = {"spec": keep(gateway, "spec.pb", spec(PIP)), "context": "", "target_image": NAME}
    running = create(gateway, **given)

    async def leave() -> None:
        request = create_request(**given)
        with contextlib.suppress(TimeoutError, ConnectError):
            await asyncio.wait_for(run_service(gateway).create_run(request, headers=HEADERS), 1)
        for _ in range(600):
            if not gateway.app._calls._taken:
                break
            await asyncio.sleep(0.05)

    asyncio.run(leave())
    assert gateway.app._calls._taken == {}
    threading.Timer(0.3, may_end.set).start()
    assert watched(gateway, running)[-1].details.status.phase == phase_pb2.ACTION_PHASE_SUCCEEDED
    create(gateway, **given)
    assert gateway.flyted.verbs().count("image.build") == 2
    assert len(list((gateway.state / "runs").iterdir())) == 2
