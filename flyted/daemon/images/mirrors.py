"""Has the mirrors of registries asked what they are, when somebody wants to know, by a unit without rights."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from flyted.base import tasks
from flyted.contract.answers.machine import Check
from flyted.contract.errors import HostFailure
from flyted.daemon.effects import Units
from flyted.daemon.images.builds import run_unit
from flyted.daemon.images.roots import RootSettings
from flyted.host.network import nameservers
from flyted.plan.images import mirror_check
from flyted.plan.images.build_unit import loopback_nameservers


class Mirrors:
    """The mirrors that settings name."""

    def __init__(self, units: Units, settings: RootSettings) -> None:
        self._units = units
        self._settings = settings
        self._asked: asyncio.Task[tuple[Check, ...]] | None = None

    async def findings(self) -> tuple[Check, ...]:
        """Return doctor's findings, one for each mirror. Who asks while they are being asked gets the same."""
        if not self._settings.pulls.mirrors:
            return ()
        if self._asked is None or self._asked.done():
            self._asked = tasks.begin(self._ask())
        return await asyncio.shield(self._asked)

    async def _ask(self) -> tuple[Check, ...]:
        settings = self._settings.pulls

        def wanted(pipe: int) -> dict[str, Any]:
            closed = loopback_nameservers(nameservers())
            return mirror_check.mirrors_unit(replace(settings, addresses=closed, output_fd=pipe))

        try:
            _end, lines = await run_unit(self._units, mirror_check.UNIT, wanted)
        except HostFailure as error:
            return (Check("mirrors", ok=False, detail=error.message, hint=error.hint),)
        found = mirror_check.findings(lines, settings, self._settings.login)
        return tuple(Check(f"mirror {each.registry}", each.ok, each.detail, each.hint) for each in found)
