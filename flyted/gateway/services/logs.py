"""AppLogsService: an app's last lines in the journal, and each new one, across its revisions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from connectrpc.request import RequestContext
from flyteidl2.app import app_definition_pb2 as definition
from flyteidl2.app import app_logs_payload_pb2 as pb
from flyteidl2.app.app_logs_service_connect import AppLogsService
from flyteidl2.logs.dataplane import payload_pb2 as lines

from flyted.base import tasks
from flyted.contract.answers.events import Event, LogLine
from flyted.contract.answers.machine import Done
from flyted.contract.answers.tokens import WhoAmI
from flyted.contract.errors import LimitReached
from flyted.gateway.caller import Caller, caller
from flyted.gateway.harmless import harmless
from flyted.gateway.idl.convert import key_of
from flyted.gateway.parts import Parts
from flyted.gateway.slots import Slots
from flyted.plan.crowd import FOLLOWED

BACKLOG = 200
STREAM_S = 600.0
CHECK_S = 15.0
WAITING = 4096  # lines by which a slow client may lag


class Logs(AppLogsService):
    """The handler of AppLogsService."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._open = Slots(FOLLOWED)  # as in flyted: each holds a connection, and deploys need some, too (daemon.py)

    async def tail_logs(self, request: pb.TailLogsRequest, ctx: RequestContext) -> AsyncIterator[pb.TailLogsResponse]:
        """Yield an app's last 200 lines and each new one.

        The stream ends after ten minutes (the SDK asks again, and drops lines that it has seen), when the client
        leaves, or when the token has been revoked. Raise :class:`LimitReached` if the user follows as many as they
        may, and :class:`~flyted.contract.errors.NotFound` for an app that does not exist.
        """
        app = request.app_id if request.HasField("app_id") else request.replica_id.app_id
        key = key_of(app)
        if not self._open.free(caller().uid):
            raise LimitReached("you already follow as many logs as allowed", hint="end one of them, and try again")
        async with self._open.slot(caller().uid):
            args = {"project": key.project, "domain": key.domain, "name": key.name, "lines": BACKLOG, "follow": True}
            async for batch in self._batches(args, caller()):
                yield _answer(app, batch)

    async def _batches(self, args: dict[str, Any], who: Caller) -> AsyncIterator[list[LogLine]]:
        """Yield lines as they come, several at a time if they come fast."""
        queue: asyncio.Queue[LogLine] = asyncio.Queue(WAITING)
        until = time.monotonic() + STREAM_S

        def heard(event: Event) -> None:
            if isinstance(event, LogLine):
                if queue.full():
                    queue.get_nowait()  # drop the oldest: a client that lags wants the newest
                queue.put_nowait(event)

        tail = asyncio.ensure_future(self._parts.daemon.call(Done, "app.logs", args, token=who.token, on_event=heard))
        gone = asyncio.ensure_future(who.gone.wait())
        line: asyncio.Future[LogLine] = asyncio.ensure_future(queue.get())
        checked = time.monotonic()
        try:
            while (now := time.monotonic()) < until:
                if now - checked >= CHECK_S:  # a token that was revoked meanwhile ends the stream
                    await self._parts.daemon.call(WhoAmI, "whoami", token=who.token)
                    checked = now
                rest = min(until - now, CHECK_S)
                await asyncio.wait((line, tail, gone), timeout=rest, return_when=asyncio.FIRST_COMPLETED)
                if line.done():
                    yield [line.result(), *_waiting(queue)]
                    line = asyncio.ensure_future(queue.get())
                    continue
                if tail.done():
                    tail.result()
                if tail.done() or gone.done():
                    break
        finally:
            await tasks.end(tail, gone, line)


def _waiting(queue: asyncio.Queue[LogLine]) -> list[LogLine]:
    return [queue.get_nowait() for _ in range(min(queue.qsize(), 200))]


def _answer(app: definition.Identifier, batch: list[LogLine]) -> pb.TailLogsResponse:
    answer = pb.TailLogsResponse()
    found = answer.batches.logs.add(source=lines.LOG_LINE_SOURCE_LIVE)
    found.replica_id.app_id.CopyFrom(app)
    found.replica_id.name = app.name
    for event in batch:
        whose = lines.USER if event.source == "app" else lines.SYSTEM
        line = found.structured_lines.add(message=harmless(event.text), originator=whose)
        line.timestamp.FromMicroseconds(event.time)
    return answer
