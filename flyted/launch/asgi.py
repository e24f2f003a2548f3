"""Requests a path of an ASGI application without a connection, from within the server's own loop."""

from __future__ import annotations

import asyncio
from typing import Any

_WAIT_S = 5.0
_EVERY_S = 0.1


async def until_ready(application: Any, path: str) -> None:
    """Wait until the application answers ``path`` with a status below 500 other than 404, as ``health.Ready`` does."""
    while not await _is_ready(application, path):  # noqa: ASYNC110 - no event tells when the answer changes
        await asyncio.sleep(_EVERY_S)


async def _is_ready(application: Any, path: str) -> bool:
    try:
        status = await asyncio.wait_for(_status(application, path), _WAIT_S)
    except Exception:  # noqa: BLE001 - an error of the app: it is not ready, and clients are told why
        return False
    return 0 < status < 500 and status != 404


async def _status(application: Any, path: str) -> int:
    """Return the status of one GET request, 0 if the application sends none."""
    found = 0
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.sleep(_WAIT_S)  # as from a client that stays connected
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal found
        if message["type"] == "http.response.start":
            found = message["status"]

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost")], "client": None, "server": ("localhost", 80), "state": {},
    }  # fmt: skip
    await application(scope, receive, send)
    return found
