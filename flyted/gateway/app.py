"""Answers every request of the gateway in one ASGI application; the path selects the handler.

    /flyteidl2.…Service/Method   an RPC (Connect), for the owner of a token
    /upload/…                    the PUT that an upload location leads to; its address is the credential
    all else                     pages for people

Not FastAPI: it would double the time of a cold start (350 ms) and cost 15 MiB, for eleven services that the generated
classes route by themselves. A service is imported when it is first asked for.

The gateway never finishes a deploy itself: flyted does, so if the gateway is killed, only clients' connections are
lost. Before it reads a byte of a message, it asks flyted who owns the token.
"""

from __future__ import annotations

import logging
import time
import weakref
from typing import Any

from flyted.contract.errors import Busy, FlytedError, InvalidInput
from flyted.gateway.caller import Caller, bearer, caller, enter, of_request, texts
from flyted.gateway.parts import Parts
from flyted.gateway.reply import Receive, Reply, Send, plain, rpc_error
from flyted.gateway.services.registry import OPEN, Services
from flyted.gateway.slots import Slots
from flyted.plan.crowd import Room

log = logging.getLogger(__name__)

RPC = "/flyteidl2."
UPLOAD = "/upload/"
CALLS = Room(users=128, shared=256, of_a_user=128)
"""Calls to Flyte's API in progress, streams included. Callers without a token count as one user."""
UNKNOWN = 512
"""The most calls whose token flyted has not checked yet: their users are not known, so that all wait in one line."""


class Gateway:
    """The application. ``busy``, the requests in flight, and ``last``, the last one's end, show whether it is idle."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._services = Services(parts)
        self._calls = Slots(CALLS)
        self._unknown = 0
        self._callers: weakref.WeakSet[Caller] = weakref.WeakSet()
        self.busy = 0
        self.last = time.monotonic()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request. Any other scope of ASGI is ignored."""
        if scope["type"] != "http":
            return
        self.busy += 1
        reply = Reply(send, receive)
        try:
            await self._answer(scope, reply)
        except Exception:
            log.exception("a request failed")
            if not reply.started:
                await plain(reply, 500, "internal error in flyted's gateway")
        finally:
            self.busy -= 1
            self.last = time.monotonic()

    def leave(self) -> None:
        """End all streams as if their clients had gone, so that a stop does not wait for followed logs."""
        for who in list(self._callers):
            who.gone.set()

    async def _answer(self, scope: dict[str, Any], reply: Reply) -> None:
        path: str = scope["path"]
        rpc = path.startswith(RPC)
        try:
            headers = texts(scope["headers"])
            who = of_request(headers)
            enter(who)
            self._callers.add(who)
            if rpc:
                await self._rpc(scope, headers, reply)
            elif path.startswith(UPLOAD):
                await self._parts.uploads.put(scope, headers, reply)
            else:
                await self._page(scope, headers, reply)
        except FlytedError as error:
            if reply.started:
                raise
            await (rpc_error(reply, error) if rpc else plain(reply, error.http_status, error.message))

    async def _rpc(self, scope: dict[str, Any], headers: dict[str, str], reply: Reply) -> None:
        service, _, method = scope["path"].removeprefix("/").partition("/")
        if scope["method"] != "POST":
            raise InvalidInput("an RPC is a POST")
        if service not in OPEN:
            await self._check(bearer(headers))
        if not self._calls.free(caller().uid):
            raise Busy("you have too many calls to flyted in progress", hint="wait until some have ended")
        async with self._calls.slot(caller().uid):
            await self._services.answer(service, method, scope, headers, reply)

    async def _check(self, token: str) -> None:
        """Note whose token it is. Raise as :meth:`Daemon.whose`, and :class:`Busy` if too many wait for that."""
        if self._unknown >= UNKNOWN:
            raise Busy("flyted's gateway has too many new calls at once", hint="try again later")
        self._unknown += 1
        try:
            await self._parts.daemon.whose(token)
        finally:
            self._unknown -= 1

    async def _page(self, scope: dict[str, Any], headers: dict[str, str], reply: Reply) -> None:
        from flyted.gateway.pages.site import answer

        await answer(self._parts, scope, headers, reply)
