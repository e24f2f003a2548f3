"""Queries the helper for the GPUs, keeps its newest answer, and requests a pass of the loop for each answer.

Each answer also shows how much memory each app uses, which is recorded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from flyted.base import tasks
from flyted.contract.errors import FlytedError, NoGpu
from flyted.contract.gpu import Ask
from flyted.contract.names import AppKey, printable
from flyted.daemon.effects import Gpus
from flyted.daemon.gpus.table import LeaseStore
from flyted.plan.gpus.driver import INSTALL, unusable
from flyted.plan.gpus.facts import GpuFacts, Inventory
from flyted.plan.gpus.match import grantable, impossible
from flyted.plan.gpus.queue import LOOK_S

log = logging.getLogger(__name__)


class GpuInventory:
    """The newest answer of the helper. ``changed()`` asks the loop for a pass, since an answer may change the plan."""

    def __init__(self, gpus: Gpus, table: LeaseStore, changed: Callable[[], None]) -> None:
        self._gpus, self._table, self._changed = gpus, table, changed
        self._seen: Inventory | None = None
        self._error = ""
        self._at = float("-inf")  # when the newest answer came, on the loop's clock
        self._due = False  # the loop wanted it, and no pass has used it yet
        self._looking: asyncio.Task[None] | None = None

    async def look(self) -> Inventory:
        """Return all GPUs as they are now; learn what that shows of apps. Raises :class:`HostFailure`."""
        inventory = await self._gpus.inventory()
        self._keep(inventory)
        self._table.learn_peaks(inventory)
        if self._table.drop_returned(inventory):
            self._changed()
        return inventory

    def newest(self) -> tuple[Inventory | None, str]:
        """Return the newest inventory of the GPUs, or why it could not be taken, or neither."""
        fresh = asyncio.get_running_loop().time() - self._at < LOOK_S
        return (self._seen, self._error) if fresh or self._due else (None, "")

    def used(self, facts: GpuFacts) -> None:
        """Note that a pass has used an answer. An answer that the loop wanted stays valid until a pass has used it."""
        if facts.inventory is self._seen and facts.error == self._error:
            self._due = False

    def want(self) -> None:
        """Request a pass of the loop as soon as a new inventory of the GPUs has arrived, or has failed."""
        if self.newest() != (None, ""):
            self._changed()
        elif self._looking is None:
            self._looking = tasks.begin(self._look())

    async def measure(self, unit: str) -> None:
        """Look at the GPUs if a unit holds a lease: once the unit has ended, its use of memory cannot be seen."""
        lease = self._table.of(unit)
        if lease is not None and lease.ended_at is None:
            try:
                await self.look()
            except FlytedError as error:
                log.warning("%s", error.message)

    async def check(self, app: AppKey, ask: Ask) -> None:
        """Raise :class:`NoGpu`, with the arithmetic, when this machine can never give what an app asks for.

        Raises :class:`HostFailure` when the helper does not answer.
        """
        why = impossible(ask, await self.look()) if ask.count else ""
        if why:
            raise NoGpu(f"app '{app}' {why}", hint="flytectl serve --gpu any, or --cpu to run it without a GPU")

    async def suitable(self, ask: Ask) -> int:
        """Return how many devices the machine has of those that are asked for, free or not; 0 for none asked for.

        Raises :class:`HostFailure` when the helper does not answer.
        """
        return len(grantable(ask, await self.look())) if ask.count else 0

    async def check_driver(self, app: AppKey, *, needed: bool) -> None:
        """Raise :class:`NoGpu` when an app in the root of its image needs the driver and could not use it.

        Raises :class:`HostFailure` when the helper does not answer.
        """
        if needed and (why := unusable((await self.look()).files)):
            raise NoGpu(
                f"not supported on this machine: GPUs for app '{app}', whose image has its own root file system: "
                f"{why}",
                hint=f"{INSTALL}; or use an image of pip packages, or --cpu",
            )

    async def need_any(self, what: str) -> None:
        """Raise :class:`NoGpu`, in the name of ``what`` needs a GPU, when this machine has none.

        Raises :class:`HostFailure` when the helper does not answer.
        """
        why = impossible(Ask(1), await self.look())
        if why:
            raise NoGpu(
                f"not supported on this machine: {printable(what)} {why}",
                hint="serve it on a machine with a GPU, or with an environment of yours: flytectl serve --python-env",
            )

    async def _look(self) -> None:
        try:
            await self.look()
        except FlytedError as error:
            log.error("%s", error.message)  # noqa: TRY400
            self._keep(None, error.message)
        finally:
            self._looking = None
            self._due = True
            self._changed()

    def _keep(self, inventory: Inventory | None, error: str = "") -> None:
        self._seen, self._error, self._at = inventory, error, asyncio.get_running_loop().time()
