"""The journal's lines of some units, by journalctl(1): JSON out of a pipe, bounded in every direction.

Only fields that a writer cannot choose say where a line comes from: ``_SYSTEMD_UNIT`` and ``_PID`` are journald's own
(systemd.journal-fields(7)), so an app cannot put lines into another's log; ``UNIT`` counts from PID 1 only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flyted.contract.errors import HostFailure

MAX_LINES = 10_000
MAX_TEXT = 8192
READ_S = 20.0  # for what is there already; following has no end
_LINE_BYTES = 1 << 20  # journald's LineMax= of 48 KiB, as JSON numbers when it is not UTF-8
_UNIT = re.compile(r"[A-Za-z0-9:_.@-]{1,255}")
_FIELDS = "MESSAGE,UNIT,_SYSTEMD_UNIT,_PID,INVOCATION_ID,_SYSTEMD_INVOCATION_ID"
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Entry:
    """One line. ``time_us`` since the epoch; ``source`` is "app", or "systemd" for what PID 1 says about the unit."""

    time_us: int
    unit: str
    source: str
    text: str
    invocation: str


async def read(
    units: Sequence[str], *, lines: int, follow: bool, newest_run: bool = False
) -> AsyncGenerator[Entry, None]:
    """The last ``lines`` lines of all ``units`` together, then, with ``follow``, each new one as it comes.

    ``newest_run``: only those of the last start that has any. Closing the iterator ends journalctl. Raises
    :class:`HostFailure` when journalctl cannot run, or what is there does not come in time.
    """
    if not units:
        return
    process = await _start([*_options(lines, follow=follow), *_matches(units)])
    try:
        if follow:
            async for entry in _entries(process):
                yield entry
        else:
            for entry in await _all(process, newest_run=newest_run):
                yield entry
    finally:
        await _end(process)


async def _all(process: Process, *, newest_run: bool) -> list[Entry]:
    try:
        async with asyncio.timeout(READ_S):
            found = [entry async for entry in _entries(process)]
    except TimeoutError as error:
        raise HostFailure("the journal does not answer", hint="systemctl status systemd-journald") from error
    if not newest_run or not found:
        return found
    return [entry for entry in found if entry.invocation == found[-1].invocation]


def _options(lines: int, *, follow: bool) -> Iterator[str]:
    # --boot would hide what was said before a reboot; --all: messages above 4 KiB too
    yield from ("--quiet", "--no-pager", "--all", "--output=json", f"--output-fields={_FIELDS}")
    yield f"--lines={max(0, min(lines, MAX_LINES))}"
    if follow:
        yield "--follow"


def _matches(units: Iterable[str]) -> Iterator[str]:
    for number, unit in enumerate(units):
        if _UNIT.fullmatch(unit) is None:
            raise ValueError(unit)
        if number:
            yield "+"
        yield from (f"_SYSTEMD_UNIT={unit}", "+", "_PID=1", f"UNIT={unit}")


async def _start(arguments: Iterable[str]) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            "/usr/bin/journalctl", *arguments,
            stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=_ENVIRONMENT, limit=_LINE_BYTES,
        )  # fmt: skip
    except OSError as error:
        raise HostFailure(f"journalctl cannot be started: {error.strerror}") from error


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


async def _entries(process: Process) -> AsyncIterator[Entry]:
    output = process.stdout
    assert output is not None  # noqa: S101  a pipe was asked for
    while True:
        try:
            line = await output.readline()
        except ValueError:  # above the limit; what asyncio leaves of it is no JSON and is passed over
            continue
        if not line:
            return
        entry = entry_of(line)
        if entry is not None:
            yield entry


def entry_of(line: bytes) -> Entry | None:
    """One line of ``journalctl --output=json``; ``None`` for what is none."""
    try:
        data = json.loads(line)
        time_us = int(data["__REALTIME_TIMESTAMP"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    systemd = data.get("_PID") == "1"
    unit = data.get("UNIT" if systemd else "_SYSTEMD_UNIT")
    invocation = data.get("INVOCATION_ID" if systemd else "_SYSTEMD_INVOCATION_ID")
    return Entry(time_us, _text(unit), "systemd" if systemd else "app", _text(data.get("MESSAGE")), _text(invocation))


def _text(value: Any) -> str:
    """A field: text, a list of bytes when it is not UTF-8 or has control characters, a list of these when twice."""
    if isinstance(value, list) and value and isinstance(value[0], str | list):
        value = value[0]
    if isinstance(value, list):
        with contextlib.suppress(ValueError, TypeError):
            value = bytes(value).decode("utf-8", "replace")
    return value[:MAX_TEXT] if isinstance(value, str) else ""
