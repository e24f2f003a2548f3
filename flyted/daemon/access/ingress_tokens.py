"""Updates the ingress's table of tokens: after a change, when tokens expire, and when users leave the group.

When it is looked at is decided in plan/upkeep.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from flyted.contract.errors import FlytedError
from flyted.daemon.effects import Clock, Ingress, Watch
from flyted.host import people
from flyted.host.store import Store
from flyted.host.tokens import Tokens
from flyted.plan.tokens import LOOK_S, dead, ingress_table, newly_used, next_look
from flyted.plan.upkeep_facts import TokenFacts

log = logging.getLogger(__name__)


def wanted(table: Tokens, clock: Clock) -> dict[str, str]:
    """Return the ingress's table of tokens as of now."""
    tokens = table.all()
    owners = {(t.uid, t.user) for t in tokens}
    return ingress_table(tokens, {owner: people.may_operate(*owner) for owner in owners}, clock.time())


class IngressTokens:
    """The table of which tokens open which apps, as the ingress has it.

    ``runs()``: whether the ingress runs, so that we do not start it. ``watch``: reports changes to the files that say
    who is in the group. ``poke``: asks for a pass of the loop.
    """

    def __init__(
        self, table: Tokens, store: Store, ingress: Ingress, runs: Callable[[], bool], clock: Clock,
        watch: Watch, poke: Callable[[], None],
    ) -> None:  # fmt: skip
        self._clock = clock
        self._watch = watch
        self._people_at = float("-inf")
        self._table = table
        self._store = store
        self._ingress = ingress
        self._runs = runs
        self._poke = poke
        self._told: dict[str, str] | None = None
        self._stale = True
        self._due: float | None = None

    def start(self) -> None:
        """Watch for changes to users and groups from now on."""
        self._watch.start(self._people_changed)

    def facts(self) -> TokenFacts:
        """Return when the tokens have to be checked."""
        return TokenFacts(self._stale, self._due)

    def changed(self) -> None:
        """Request a check of the tokens: they, or the clock, have changed."""
        self._stale = True
        self._poke()

    async def apply(self) -> None:
        """Update the ingress immediately. Its file is written in any case; raises as :meth:`Ingress.apply_tokens`."""
        self.changed()
        await self._tell()

    async def _tell(self) -> None:
        self._told = None
        now = wanted(self._table, self._clock)
        if self._runs():
            await self._ingress.apply_tokens()
        else:
            self._ingress.write_tokens()
        self._told = now

    async def note_uses(self) -> None:
        """Record the days on which the ingress saw tokens used. Raises :class:`IngressDown`."""
        if self._runs():
            now = self._clock.time()
            ages = await self._ingress.token_uses()
            self._table.used(newly_used(self._table.all(), {digest: now - age for digest, age in ages.items()}))

    def sweep(self) -> None:
        """Forget tokens that expired long ago, or whose app is gone."""
        gone = dead(self._table.all(), self._store.ids(), self._clock.time())
        if gone:
            self._table.remove(gone)

    async def check(self) -> None:
        """Delete tokens that ended long ago, update the ingress's table, and record which tokens were used.

        What of this fails is logged, and tried again a minute later.
        """
        self._stale, self._due = False, self._clock.time() + LOOK_S
        try:
            self._due = await self._look()
        except FlytedError as error:
            log.error("cannot update the ingress's table of tokens: %s", error.message)  # noqa: TRY400

    async def _look(self) -> float | None:
        try:
            self.sweep()
        except FlytedError as error:  # the disk refuses it; the ingress must be updated all the same
            log.error("cannot remove expired tokens yet: %s", error.message)  # noqa: TRY400
        if wanted(self._table, self._clock) != self._told:
            await self._tell()
        hears = self._watch.hears and people.in_files()
        due = next_look(self._table.all(), self._clock.time(), hears=hears, people_at=self._people_at)
        if due is not None:
            await self.note_uses()
        return due

    def _people_changed(self) -> None:
        self._people_at = self._clock.time()
        self.changed()
