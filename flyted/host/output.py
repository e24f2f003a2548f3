"""Provides a pipe for a unit's output, read line by line while the unit runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable

from flyted.base import tasks

_LINE_LIMIT = 4096
_REST_S = 5.0


@contextlib.asynccontextmanager
async def lines_to(hear: Callable[[str], Awaitable[None]]) -> AsyncIterator[int]:
    """Yield the descriptor that a unit is to print to; each line goes to ``hear``, the last ones at the end.

    A line of more than 4096 bytes becomes "...".
    """
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_LIMIT, loop=loop)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb"))

    async def pump() -> None:
        while line := await _line(reader):
            await hear(_last_written(line.decode("utf-8", "replace").rstrip("\r\n")))

    pumping = tasks.begin(pump())
    try:
        yield writing
    finally:
        os.close(writing)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pumping, _REST_S)  # a stray child of the unit may hold the pipe open
        transport.close()


def _last_written(line: str) -> str:
    """Return what a terminal would show in the end of a line that is written over: dpkg counts files in this way."""
    return line.rpartition("\r")[2]


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:  # the line is longer than the limit: it is dropped, and asyncio has emptied its buffer
        return b"...\n"
