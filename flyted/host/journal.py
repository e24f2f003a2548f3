"""Reads the journal's lines of some units through journalctl(1): JSON from a pipe, bounded in every direction.

Only fields that a writer cannot choose say where a line comes from: ``_SYSTEMD_UNIT`` and ``_PID`` are journald's own
(systemd.journal-fields(7)), so an app cannot put lines into another's log; ``UNIT`` counts from PID 1 only, and
``FLYTED_APP``, with which flyted says who changed an app, from flyted's own unit only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flyted.base import tasks
from flyted.contract.errors import FlytedError, HostFailure

MAX_LINES = 10_000
MAX_TEXT = 8192
MAX_UNITS = 40  # of one app, so that following it stays bounded over many deploys
SYNC_S = 10.0  # for what journald has not written yet
READ_S = 20.0  # for the lines that are there already; following has no end
_LINE_BYTES = 1 << 20  # enough for journald's LineMax= of 48 KiB; a line that is not UTF-8 is numbers in JSON
_FLYTED = "flyted.service"
_UNIT = re.compile(r"[A-Za-z0-9:_.@-]{1,255}")
_FIELDS = (
    "MESSAGE,UNIT,_SYSTEMD_UNIT,_PID,INVOCATION_ID,_SYSTEMD_INVOCATION_ID,"
    "_TRANSPORT,OBJECT_SYSTEMD_UNIT,OBJECT_SYSTEMD_INVOCATION_ID"
)
# not --boot, which would hide the lines from before a reboot; --all: messages above 4 KiB too
_OPTIONS = ("--quiet", "--no-pager", "--all", "--output=json", f"--output-fields={_FIELDS}")
_JOURNALCTL = "/usr/bin/journalctl"
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Entry:
    """One line. ``time_us``: microseconds since 1970.

    ``source``: "app", "systemd" for a line of PID 1 (or journald) about the unit, or "flyted" for one that says who
    changed the app.
    """

    time_us: int
    unit: str
    source: str
    text: str
    invocation: str
    cursor: str = ""  # its place in the journal (journalctl(1), --after-cursor)


async def read(
    units: Sequence[str], *, lines: int, newest_run: bool = False, systemd_only: bool = False, app: str = ""
) -> list[Entry]:
    """Return the last ``lines`` lines of all ``units`` together.

    ``newest_run``: of these, only the lines of the last start that has any. ``systemd_only``: only PID 1's lines about
    the units, however much they print themselves. ``app``: also flyted's lines about changes of the app with this id.

    Raises :class:`HostFailure` when journalctl cannot run, or the lines do not come within ``READ_S`` seconds.
    """
    if not units:
        return []
    return await _read(_matches(units, app, systemd_only=systemd_only), [_last(lines)], newest_run=newest_run)


async def sync() -> None:
    """Wait until journald has written what it was sent: it can lag seconds behind an app that prints without end.

    The wait ends after ``SYNC_S`` seconds in any case. Raises :class:`HostFailure` when journalctl cannot run.
    Source: journalctl(1), ``--sync``.
    """
    process = await _start(["--sync"])
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SYNC_S):
                await process.wait()
    finally:
        await _end(process)


async def follow(
    units: Callable[[], Sequence[str]], changed: Callable[[], Awaitable[None]], *, lines: int, app: str = ""
) -> AsyncGenerator[Entry, None]:
    """Yield the last ``lines`` lines of ``units()`` together, then each new line as it comes, until no unit is left.

    ``app``: as for :func:`read`.

    Units come and go: ``changed()`` returns when ``units()`` may have another answer. journalctl does not notice new
    units, so another journalctl takes over after the last line of the one before: no line is lost, none comes twice.
    Closing the iterator ends journalctl. Raises :class:`HostFailure` when journalctl cannot run, or ends by itself.
    """
    known = tuple(units())
    if not known:
        return
    found = await _read(_matches(known, app), [_last(max(lines, 1))])  # at least one: its cursor says where to begin
    for entry in found[max(0, len(found) - lines) :]:
        yield entry
    place = ["--no-tail", *(f"--after-cursor={entry.cursor}" for entry in found[-1:])]
    while True:
        process = await _start([*_OPTIONS, "--follow", *place, *_matches(known, app)])
        watch = tasks.begin(_end_at_change(process, known, units, changed))
        try:
            async for entry in _entries(process):
                place = ["--no-tail", f"--after-cursor={entry.cursor}"]
                yield entry
        finally:
            asked = watch.done()  # before it is cancelled, which makes it done, too
            watch.cancel()
            await _end(process)
        now = units()
        if not now:
            for entry in await _read(_matches(known, app), place):
                yield entry
            return
        if not asked:
            raise HostFailure(
                "journalctl ended unexpectedly",
                hint="sysctl fs.inotify.max_user_instances: root may have used all of them",
            )
        known = tuple(dict.fromkeys((*known, *now)))[-MAX_UNITS:]


async def _end_at_change(
    process: Process, known: Sequence[str], units: Callable[[], Sequence[str]], changed: Callable[[], Awaitable[None]]
) -> None:
    while (now := units()) and set(now) <= set(known):
        with contextlib.suppress(FlytedError):  # a pass of the daemon that fails is reported elsewhere
            await changed()
    with contextlib.suppress(ProcessLookupError):
        process.terminate()


async def _read(matches: Iterable[str], place: Sequence[str], *, newest_run: bool = False) -> list[Entry]:
    process = await _start([*_OPTIONS, *place, *matches])
    try:
        return await _all(process, newest_run=newest_run)
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


def _last(lines: int) -> str:
    return f"--lines={max(0, min(lines, MAX_LINES))}"


def _matches(units: Iterable[str], app: str = "", *, systemd_only: bool = False) -> Iterator[str]:
    if app:
        yield from (f"_SYSTEMD_UNIT={_FLYTED}", f"FLYTED_APP={app}", "+")
    for number, unit in enumerate(units):
        if _UNIT.fullmatch(unit) is None:
            raise ValueError(unit)
        if number:
            yield "+"
        yield from ("_PID=1", f"UNIT={unit}")
        if not systemd_only:
            yield from ("+", f"_SYSTEMD_UNIT={unit}", "+", "_TRANSPORT=driver", f"OBJECT_SYSTEMD_UNIT={unit}")


async def _start(arguments: Iterable[str]) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            _JOURNALCTL, *arguments,
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
        except ValueError:  # longer than the limit; what asyncio leaves of the line is no JSON, and is passed over
            continue
        if not line:
            return
        entry = entry_of(line)
        if entry is not None:
            yield entry


def entry_of(line: bytes) -> Entry | None:
    """Return the entry in a line of ``journalctl --output=json``; ``None`` if there is none in it."""
    try:
        data = json.loads(line)
        time_us = int(data["__REALTIME_TIMESTAMP"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if data.get("_SYSTEMD_UNIT") == _FLYTED:
        source, unit, invocation = "flyted", "_SYSTEMD_UNIT", "_SYSTEMD_INVOCATION_ID"
    elif data.get("_TRANSPORT") == "driver":  # journald's own line, such as that it has suppressed lines of the unit
        source, unit, invocation = "systemd", "OBJECT_SYSTEMD_UNIT", "OBJECT_SYSTEMD_INVOCATION_ID"
    elif data.get("_PID") == "1":
        source, unit, invocation = "systemd", "UNIT", "INVOCATION_ID"
    else:
        source, unit, invocation = "app", "_SYSTEMD_UNIT", "_SYSTEMD_INVOCATION_ID"
    text, cursor = _text(data.get("MESSAGE")), _text(data.get("__CURSOR"))
    return Entry(time_us, _text(data.get(unit)), source, text, _text(data.get(invocation)), cursor)


def _text(value: Any) -> str:
    """Return a field as text of at most ``MAX_TEXT`` characters; "" if there is none.

    journalctl writes a string, a list of bytes if the field is not UTF-8 or has control characters, or a list of these
    if the entry has the field more than once: then the first one counts.
    """
    if isinstance(value, list) and value and isinstance(value[0], str | list):
        value = value[0]
    if isinstance(value, list):
        with contextlib.suppress(ValueError, TypeError):
            value = bytes(value).decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}… ({len(value) - MAX_TEXT} more characters)"
