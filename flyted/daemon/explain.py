"""Reads from the journal why an app failed, how it ended, and what it printed. Changes nothing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from flyted.contract.answers.events import LogLine
from flyted.contract.errors import HostFailure
from flyted.contract.names import EGRESS_UNIT, Replica, network_of, replica_of
from flyted.daemon.effects import Journal
from flyted.host.journal import Entry
from flyted.host.store import Store
from flyted.plan.engines.failures import LINES as ENGINE_LINES
from flyted.plan.engines.failures import engine_failure
from flyted.plan.reasons import came_up, crash_of, lacks_network, network_reason, reason_of

log = logging.getLogger(__name__)

_FAILED_LINES = 30
_REASON_LINES = 120  # a traceback, and what the program prints after it


@dataclass(frozen=True)
class Explain:
    """What reads the journal. ``start_timeout_s``: seconds that a start may take, where its app does not say.

    ``refused``: why a unit, by name, was refused a credential at its last start (secrets/handover.py).
    """

    journal: Journal
    store: Store
    start_timeout_s: int
    refused: Mapping[str, str]

    async def last_lines(self, replica: Replica, lines: int = _FAILED_LINES) -> list[LogLine]:
        """Return the last lines of the newest run of a replica's service. Raises :class:`HostFailure`."""
        found = await self.journal.read([replica.service], lines=lines, newest_run=True)
        return [_line(entry) for entry in found]

    async def why_failed(self, replica: Replica) -> str:
        """Say in one sentence why a replica's newest run failed: from the journal, and from what it was refused.

        A journal that cannot be read is the sentence then: it must neither hide that the app failed nor end a pass of
        the loop, which is for all apps. Raises :class:`NotFound` when the app is gone.
        """
        try:
            return await self._reason(replica)
        except HostFailure as error:
            return f"the cause of the failure is unknown: {error.message}"

    async def _reason(self, replica: Replica) -> str:
        await self.journal.sync()
        lines = await self.last_lines(replica, _REASON_LINES)
        if lacks_network(lines):
            units = [network_of(replica), EGRESS_UNIT]
            return network_reason([_line(entry) for entry in await self.journal.read(units, lines=_FAILED_LINES)])
        known = self.refused.get(replica.service, "") or await self._engine_failure(replica)
        systemds = await self.journal.read([replica.service], lines=_FAILED_LINES, newest_run=True, systemd_only=True)
        revision = self.store.app(replica.app_id).revision(replica.revision)
        limit = (revision.spec.start_timeout_s if revision else 0) or self.start_timeout_s
        return reason_of(lines, limit, known, started=came_up([_line(entry) for entry in systemds]))

    async def _engine_failure(self, replica: Replica) -> str:
        revision = self.store.app(replica.app_id).revision(replica.revision)
        shape = revision.shape if revision is not None else None
        if shape is None:
            return ""
        return engine_failure(await self.last_lines(replica, ENGINE_LINES), shape.engine.failures)

    async def why_ended(self, replica: Replica) -> str:
        """Return how a service at rest came to an end; "" if it was put to sleep, or the journal does not say."""
        try:
            return crash_of(await self.last_lines(replica, _REASON_LINES))
        except HostFailure as error:
            log.warning("%s", error.message)
            return ""

    async def lines(self, app_id: str, lines: int) -> list[LogLine]:
        """Return an app's last lines across its revisions, and who changed it. Raises :class:`HostFailure`."""
        return [_line(entry) for entry in await self.journal.read(self._services(app_id), lines=lines, app=app_id)]

    async def follow(
        self, app_id: str, lines: int, changed: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[LogLine, None]:
        """Yield an app's last lines, then each new one, also of later revisions; end when the app is deleted.

        ``changed()`` returns when there may be another revision. Raises :class:`HostFailure`.
        """
        found = self.journal.follow(lambda: self._services(app_id), changed, lines=lines, app=app_id)
        async with contextlib.aclosing(found) as entries:
            async for entry in entries:
                yield _line(entry)

    def _services(self, app_id: str) -> list[str]:
        """Return the services whose lines are an app's log; the last ones are those that matter most.

        Who follows the log for long follows the last ``MAX_UNITS`` of them (host/journal.py).
        """
        app = self.store.get(app_id)
        numbers = [revision.number for revision in app.revisions] if app is not None else []
        found = (reversed(app.replicas_so_far(number)) for number in numbers if app is not None)
        return [replica.service for replicas in found for replica in replicas]


def _line(entry: Entry) -> LogLine:
    replica = replica_of(entry.unit)
    revision, number = (replica.revision, replica.number) if replica else (0, 0)
    return LogLine(time=entry.time_us, revision=revision, replica=number, source=entry.source, text=entry.text)
