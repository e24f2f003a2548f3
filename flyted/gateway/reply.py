"""Sends answers over ASGI: whole ones, lines of text and errors in Connect's form; knows whether one has begun.

An answer may be there before its request has been read. If the connection were closed then, the client could lose the
answer: what it still sends is answered by a reset, which discards what it has not read yet (RFC 9112, 9.6). So the
rest of a request is read and discarded before the end of the answer, within limits of bytes and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from flyted.contract.errors import FlytedError

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

REST_BYTES = 2 << 20
"""The most that is read of a request once it is answered: more than a message of Flyte's API may have."""
REST_S = 2.0
STATUS = {
    "invalid_argument": 400, "failed_precondition": 400, "not_found": 404, "already_exists": 409,
    "permission_denied": 403, "unauthenticated": 401, "resource_exhausted": 429, "unavailable": 503,
    "unimplemented": 501, "internal": 500,
}  # fmt: skip
"""Connect's error codes → HTTP status (connectrpc.com/docs/protocol, "Error codes")."""


_SAFE = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
)


class Reply:
    """ASGI's ``send`` and ``receive`` of one request. ``started``: whether the answer has begun."""

    def __init__(self, send: Send, receive: Receive) -> None:
        self._send, self._receive = send, receive
        self._is_read = False
        self.started = False

    async def receive(self) -> dict[str, Any]:
        """Return the next message from the client."""
        message = await self._receive()
        self._is_read = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def __call__(self, message: dict[str, Any]) -> None:
        """Pass a message on. Add headers for browsers where missing: load nothing, guess no type, show in no frame."""
        self.started = True
        if message["type"] == "http.response.start":
            listed = list(message.get("headers", ()))
            given = {name.lower() for name, _ in listed}
            listed += [(name, value) for name, value in _SAFE if name not in given]
            message = {**message, "headers": listed}
        elif not self._is_read and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REST_S):
                    await self.skip(REST_BYTES)
            message = {"type": message["type"], "body": b""}
        await self._send(message)

    async def skip(self, most: int) -> None:
        """Read and discard the rest of the request, until ``most`` bytes have come or the client has gone."""
        while not self._is_read and most > 0:
            most -= len((await self.receive()).get("body", b""))


async def whole(reply: Reply, status: int, body: bytes, headers: dict[str, str] | list[tuple[str, str]]) -> None:
    """Send a complete answer."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    listed = [(name.lower().encode(), value.encode()) for name, value in pairs]
    listed.append((b"content-length", str(len(body)).encode()))
    await reply({"type": "http.response.start", "status": status, "headers": listed})
    await reply({"type": "http.response.body", "body": body})


async def plain(reply: Reply, status: int, text: str) -> None:
    """Send a line of text, and close the connection."""
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", "Connection": "close"}
    await whole(reply, status, f"{status}: {text}\n".encode(), headers)


async def rpc_error(reply: Reply, error: FlytedError) -> None:
    """Send the error of an RPC whose message has not been read."""
    from flyted.gateway.errors import CODES, one_text

    code = CODES[error.code].value if error.code in CODES else "internal"
    await connect_error(reply, code, one_text(error))


async def connect_error(reply: Reply, code: str, message: str) -> None:
    """Send an error in Connect's JSON form, and close the connection. ``code`` is one of :data:`STATUS`."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "Connection": "close"}
    await whole(reply, STATUS[code], json.dumps({"code": code, "message": message}).encode(), headers)
