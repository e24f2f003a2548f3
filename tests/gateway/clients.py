"""The generated clients, as the SDK uses them: Connect over HTTP, with a bearer token."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine
from typing import Any

from tests.gateway.harness import TOKEN, Running

HEADERS = {"authorization": f"Bearer {TOKEN}"}


def service(gateway: Running, module: str, name: str) -> Any:
    """A client of one service."""
    return getattr(importlib.import_module(f"flyteidl2.{module}"), f"{name}Client")(gateway.url)


def ask(call: Callable[..., Coroutine[Any, Any, Any]], request: Any, headers: dict[str, str] | None = None) -> Any:
    """One unary call; raises ``ConnectError`` as the SDK would see it."""
    return asyncio.run(_ask(call, request, HEADERS if headers is None else headers))


async def _ask(call: Callable[..., Coroutine[Any, Any, Any]], request: Any, headers: dict[str, str]) -> Any:
    return await call(request, headers=headers)


def first(stream: Callable[..., Any], request: Any, count: int) -> list[Any]:
    """The first answers of a stream; then the client leaves."""

    async def collect() -> list[Any]:
        found = []
        async for answer in stream(request, headers=HEADERS):
            found.append(answer)
            if len(found) == count:
                break
        return found

    return asyncio.run(asyncio.wait_for(collect(), 30))
