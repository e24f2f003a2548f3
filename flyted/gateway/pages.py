"""Pages for people: what an address that the SDK prints leads to. Small, without scripts, for who has logged in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from flyted.gateway.parts import Parts
from flyted.gateway.reply import Reply, plain

Receive = Callable[[], Awaitable[dict[str, Any]]]


async def answer(parts: Parts, scope: dict[str, Any], headers: dict[str, str], receive: Receive, reply: Reply) -> None:
    """One page."""
    await plain(reply, 404, "there is no such page")
