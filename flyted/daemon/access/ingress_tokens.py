"""Keeps the ingress's table of tokens true: at once after a change, as tokens expire, as people leave the group."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from flyted.contract.errors import FlytedError
from flyted.host import people
from flyted.host.clock import Clock
from flyted.host.ingress import Ingress
from flyted.host.store import Store
from flyted.host.tokens import Tokens
from flyted.host.watch_files import FileWatch
from flyted.plan.tokens import counts, dead, grants, newly_used

log = logging.getLogger(__name__)

LOOK_S = 60.0
"""Seconds until the next look after a failure, and where no file tells who is who.

The ingress hears that much later that an owner has left the group.
"""
NOTE_S = 3600.0
"""Seconds after which the uses of tokens, which HAProxy has in memory, are written down again while there are some."""
AGAIN_S = 5.0
"""Seconds until a second look after a change of the files: adduser(8) makes several, and nscd(8) may be behind."""


def wanted(table: Tokens) -> dict[str, str]:
    """Return the ingress's table of tokens as of now."""
    tokens = table.all()
    owners = {(t.uid, t.user) for t in tokens}
    return grants(tokens, {owner: people.may_operate(*owner) for owner in owners}, time.time())


class IngressTokens:
    """The table of which tokens open which apps, as the ingress is told it.

    ``runs()``: whether the ingress runs, so that we do not start it. ``watch``: hears of changes to the files that say
    who is in the group.
    """

    def __init__(
        self, table: Tokens, store: Store, ingress: Ingress, runs: Callable[[], bool], clock: Clock,
        watch: FileWatch,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._watch = watch
        self._changed_at = 0.0
        self._table = table
        self._store = store
        self._ingress = ingress
        self._runs = runs
        self._told: dict[str, str] | None = None
        self._news = asyncio.Event()

    async def apply(self) -> None:
        """Tell the ingress at once. Its file is written in any case; raises as :meth:`Ingress.apply_tokens`."""
        self._news.set()
        await self._tell()

    async def _tell(self) -> None:
        self._told = None
        now = wanted(self._table)
        if self._runs():
            await self._ingress.apply_tokens()
        else:
            self._ingress.write_tokens()
        self._told = now

    async def note_uses(self) -> None:
        """Write down the days on which the ingress saw tokens used. Raises :class:`IngressDown`."""
        if self._runs():
            now = time.time()
            ages = await self._ingress.token_uses()
            self._table.used(newly_used(self._table.all(), {digest: now - age for digest, age in ages.items()}))

    def sweep(self) -> None:
        """Forget tokens that expired long ago, or whose app is gone."""
        gone = dead(self._table.all(), self._store.ids(), time.time())
        if gone:
            self._table.remove(gone)

    async def run(self) -> None:
        """Look for ever: when a token expires, the clock was set, or a file changes that says who is who."""
        self._watch.start(self._people_changed)
        while True:
            self._news.clear()
            moment: float | None = time.time() + LOOK_S
            try:
                moment = await self._look()
            except FlytedError as error:
                log.error("cannot update the ingress's table of tokens: %s", error.message)  # noqa: TRY400
            await self._clock.wait(moment, self._news)

    async def _look(self) -> float | None:
        """Make the table true; return when time alone may change it (seconds since 1970), ``None`` for never."""
        try:
            self.sweep()
        except FlytedError as error:  # the disk refuses it; whose token has ended must be told all the same
            log.error("cannot remove expired tokens yet: %s", error.message)  # noqa: TRY400
        if wanted(self._table) != self._told:
            await self._tell()
        now = time.time()
        moments = [token.expires_at for token in self._table.all() if counts(token, now)]
        if not moments:
            return None
        await self.note_uses()
        moments.append(now + NOTE_S)
        if not (self._watch.hears and people.in_files()):
            moments.append(now + LOOK_S)
        if now < self._changed_at + AGAIN_S:
            moments.append(self._changed_at + AGAIN_S)
        return min(moments)

    def _people_changed(self) -> None:
        self._changed_at = time.time()
        self._news.set()
