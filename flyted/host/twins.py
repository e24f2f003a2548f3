"""The twins of servers, over which HAProxy keeps connections (``plan/ingress/kept.py``)."""

from __future__ import annotations

import asyncio
import contextlib

from flyted.host.haproxy import Haproxy
from flyted.plan.ingress import answers, kept

FREE_S = 1.0
"""Seconds for which requests over kept connections are waited for before a twin is closed."""
_LOOK_S = 0.01


async def close(haproxy: Haproxy, server: str, words: str) -> None:
    """Put a twin that no request is sent to any more into maintenance, which closes its idle connections.

    Its requests are waited for, for :data:`FREE_S` seconds: HAProxy would send those in its queue elsewhere. Raises
    :class:`IngressDown`.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FREE_S):
            while await _is_busy(haproxy, server, words):  # noqa: ASYNC110 - HAProxy tells of nothing by itself
                await asyncio.sleep(_LOOK_S)
    await haproxy.ask(f"set server {kept.twin(server)} state maint")  # whatever it answers: the twin may have gone


async def _is_busy(haproxy: Haproxy, server: str, words: str) -> bool:
    counted = answers.parse_counted(await haproxy.ask(f"show info; show stat {words}"))
    return server in counted.traffic and counted.traffic[server].busy
