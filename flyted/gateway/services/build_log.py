"""The output of an image build, for `flyte get logs` and for all others who follow the logs of a run."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator

from flyteidl2.dataproxy import dataproxy_service_pb2 as pb
from flyteidl2.logs.dataplane import payload_pb2 as lines

from flyted.contract.answers.tokens import WhoAmI
from flyted.gateway.caller import caller
from flyted.gateway.parts import Parts
from flyted.gateway.services.jobs import Run

QUIET_S = 15.0
"""Seconds without a line after which an empty answer is sent: the SDK stops to listen after 30 (remote/_action.py)."""
BATCH = 200


async def followed(parts: Parts, name: str) -> AsyncIterator[pb.TailLogsResponse]:
    """Yield what is kept of a build's output, each new line, and in the end why it failed.

    The stream ends with the build, or when the client leaves. Raise :class:`~flyted.contract.errors.NotFound` for an
    unknown build, and :class:`~flyted.contract.errors.Unauthenticated` once the caller's token is revoked.
    """
    run, seen, checked = parts.jobs.run(name), 0, time.monotonic()
    while True:
        news = parts.jobs.news_of(name)
        new, seen = run.since(seen), run.said
        for answer in _answers(new, lines.USER):
            yield answer
        if news is None:
            break
        if run.said == seen and run.phase == "running":  # else it went on while the client read
            await caller().while_there(news.wait(QUIET_S))
        if caller().gone.is_set():
            return
        if time.monotonic() - checked >= QUIET_S:
            checked = time.monotonic()
            await parts.daemon.call(WhoAmI, "whoami", token=caller().token)
            yield pb.TailLogsResponse()
    for answer in _answers(_reason(run), lines.SYSTEM):
        yield answer


def _reason(run: Run) -> list[tuple[float, str]]:
    return [(run.ended, line) for line in run.error.splitlines()]


def _answers(found: list[tuple[float, str]], whose: lines.LogLineOriginator) -> Iterator[pb.TailLogsResponse]:
    for at in range(0, len(found), BATCH):
        yield pb.TailLogsResponse(logs=[pb.TailLogsResponse.Logs(lines=_lines(found[at : at + BATCH], whose))])


def _lines(found: Iterable[tuple[float, str]], whose: lines.LogLineOriginator) -> Iterator[lines.LogLine]:
    for when, text in found:
        line = lines.LogLine(message=f"{text}\n", originator=whose)  # the SDK adds no end of line
        line.timestamp.FromMicroseconds(int(when * 1_000_000))
        yield line
