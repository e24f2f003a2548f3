"""Sends answers over ASGI: whole ones, lines of text and errors in Connect's form; knows whether one has begun."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from flyted.contract.errors import FlytedError

Send = Callable[[dict[str, Any]], Awaitable[None]]

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
    """ASGI's ``send``, which notes in ``started`` whether the answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def __call__(self, message: dict[str, Any]) -> None:
        """Pass a message on. Add headers for browsers where missing: load nothing, guess no type, show in no frame."""
        self.started = True
        if message["type"] == "http.response.start":
            listed = list(message.get("headers", ()))
            given = {name.lower() for name, _ in listed}
            listed += [(name, value) for name, value in _SAFE if name not in given]
            message = {**message, "headers": listed}
        await self._send(message)


async def whole(reply: Reply, status: int, body: bytes, headers: dict[str, str] | list[tuple[str, str]]) -> None:
    """Send a complete answer."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    listed = [(name.lower().encode(), value.encode()) for name, value in pairs]
    listed.append((b"content-length", str(len(body)).encode()))
    await reply({"type": "http.response.start", "status": status, "headers": listed})
    await reply({"type": "http.response.body", "body": body})


async def plain(reply: Reply, status: int, text: str) -> None:
    """Send a line of text, and close the connection: what the client still sends is not read."""
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
