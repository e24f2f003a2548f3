"""Keeps the ingress's table of tokens true: after each change at once, and as time passes and people leave."""

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
from flyted.plan.tokens import dead, grants, newly_used

log = logging.getLogger(__name__)

LOOK_S = 60.0
"""The ingress hears at most this late that an owner has left group flyted."""


class Grants:
    """Which tokens open which apps, told to the ingress. ``runs``: whether it does, so that none is started by us."""

    def __init__(self, table: Tokens, store: Store, ingress: Ingress, runs: Callable[[], bool], clock: Clock) -> None:
        self._clock = clock
        self._table = table
        self._store = store
        self._ingress = ingress
        self._runs = runs
        self._told: dict[str, str] | None = None
        self._made = asyncio.Event()
        ingress.tokens = self.wanted

    def wanted(self) -> dict[str, str]:
        """The ingress's table as of now."""
        tokens = self._table.all()
        owners = {(t.uid, t.user) for t in tokens}
        return grants(tokens, {owner: people.may_operate(*owner) for owner in owners}, time.time())

    async def apply(self) -> None:
        """Tells the ingress at once. Its file is written in any case; raises as :meth:`Ingress.apply_tokens`."""
        self._made.set()
        await self._tell()

    async def _tell(self) -> None:
        self._told = None
        wanted = self.wanted()
        if self._runs():
            await self._ingress.apply_tokens()
        else:
            self._ingress.write_tokens()
        self._told = wanted

    async def note_uses(self) -> None:
        """Writes down the days on which the ingress saw tokens used. Raises :class:`IngressDown`."""
        if self._runs():
            now = time.time()
            ages = await self._ingress.token_uses()
            self._table.used(newly_used(self._table.all(), {digest: now - age for digest, age in ages.items()}))

    def sweep(self) -> None:
        """Forgets tokens that are long expired, or for an app that is gone."""
        gone = dead(self._table.all(), self._store.ids(), time.time())
        if gone:
            self._table.remove(gone)

    async def run(self) -> None:
        """For ever: looks once a minute while there are tokens that count, and when the clock was set."""
        while True:
            pause: float | None = LOOK_S
            self._made.clear()
            try:
                self.sweep()
                wanted = self.wanted()
                if wanted != self._told:
                    await self._tell()
                if wanted:
                    await self.note_uses()
                else:
                    pause = None
            except FlytedError as error:
                log.error("the ingress's table of tokens: %s", error.message)  # noqa: TRY400
            await self._clock.wait(None if pause is None else time.time() + pause, self._made)
