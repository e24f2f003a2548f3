"""Has the custom domains of apps looked up before a deploy, each in a unit without rights."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

from flyted.contract.app import AppSpec
from flyted.contract.errors import HostFailure
from flyted.daemon.effects import Units
from flyted.daemon.images.builds import run_unit
from flyted.host.network import nameservers
from flyted.plan.images.build_unit import loopback_nameservers
from flyted.plan.ingress import names, records
from flyted.plan.ingress.acme_unit import unit_name
from flyted.plan.ingress.sites import Site

log = logging.getLogger(__name__)

AT_A_TIME = 4


class Records:
    """The DNS records of custom domains. ``sites()`` returns the base domains besides the machine's own."""

    def __init__(self, units: Units, sites: Callable[[], tuple[Site, ...]]) -> None:
        self._units = units
        self._sites = sites
        self._number = itertools.count()
        self._room = asyncio.Semaphore(AT_A_TIME)

    async def check(self, spec: AppSpec) -> list[str]:
        """Return a note if the custom domain of an app leads to another machine, perhaps a router or a proxy.

        Raises :class:`InvalidInput` if it leads nowhere. Without orders of certificates it has no effect, and nothing
        is looked up.
        """
        if not spec.custom_domain or not names.orders(self._sites()):
            return []
        try:
            note = await self._look_up(spec.custom_domain)
        except HostFailure as error:  # the order says what is wrong with the name, if anything is
            log.warning("%s is not looked up: %s", spec.custom_domain, error.message)
            return []
        return [note] if note else []

    async def _look_up(self, name: str) -> str:
        def wanted(pipe: int) -> dict[str, Any]:
            return records.record_unit(name, pipe, loopback_nameservers(nameservers()))

        async with self._room:
            unit = unit_name(f"record {next(self._number)} {name}")
            end, lines = await run_unit(self._units, unit, wanted)
        return records.check(name, end, lines)
