"""Asks the helper ``flyted-gpu`` for an inventory of GPUs, or for their errors, while the daemon needs these.

systemd starts the helper at the connection, and it ends by itself, so nothing of it runs where no GPU is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flyted.contract.errors import HostFailure
from flyted.host import driver_links
from flyted.plan.gpus.facts import SHOWN, Inventory, inventory_of, xid_of

log = logging.getLogger(__name__)

SOCKET = Path("/run/flyted/gpu.sock")
LINKS = Path(SHOWN)
ANSWER_S = 30.0  # a driver that is just starting takes seconds
_LIMIT = 1 << 20
_RETRY_S = 5.0
_HINT = "journalctl -u flyted-gpu -n 20"


class Gpu:
    """The two requests that the helper answers, and the driver's files that it found."""

    def __init__(self, path: Path = SOCKET, links: Path = LINKS) -> None:
        self._path, self._links = path, links

    async def inventory(self) -> Inventory:
        """Return all GPUs as they are now, or raise :class:`HostFailure` when the helper does not answer."""
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await self._ask(b"list\n")
                try:
                    line = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError) as error:
            raise HostFailure(f"flyted-gpu does not answer: {error or 'too slow'}", hint=_HINT) from error
        return inventory_of(_parsed(line))

    async def watch(self, on_xid: Callable[[str, int], None]) -> None:
        """Call ``on_xid(uuid, number)`` at each error of a GPU, until cancelled.

        A number of 0 means that errors may have been missed: look at all GPUs.
        """
        while True:
            with contextlib.suppress(OSError, ValueError, HostFailure):
                reader, writer = await self._ask(b"watch\n")
                try:
                    while line := await reader.readline():
                        on_xid(*xid_of(_parsed(line)))
                finally:
                    writer.close()
            log.warning("flyted-gpu has ended; asking again")
            await asyncio.sleep(_RETRY_S)
            on_xid("", 0)  # an error that was missed meanwhile shows in the inventory

    def show(self, links: Mapping[str, str]) -> None:
        """Make the folder contain exactly these links to the driver's files. Raises :class:`HostFailure`."""
        driver_links.show(links, self._links)

    async def _ask(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=_LIMIT)
        writer.write(request)
        return reader, writer


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise HostFailure("flyted-gpu gave an answer that is not JSON", hint=_HINT) from error
    if not isinstance(data, dict):
        raise HostFailure("flyted-gpu gave an answer that is not a map", hint=_HINT)
    return data
