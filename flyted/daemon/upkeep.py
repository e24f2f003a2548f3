"""Gathers the facts about work that belongs to no single app for the plan, and begins the actions of that work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from flyted.base import tasks
from flyted.contract.errors import FlytedError
from flyted.daemon.access.ingress_tokens import IngressTokens
from flyted.daemon.effects import Clock
from flyted.daemon.execute import Execute
from flyted.daemon.images.images import Images
from flyted.daemon.images.unused import UnusedImages
from flyted.daemon.ingress.acme import Acme
from flyted.daemon.ingress.tls import Tls
from flyted.plan.actions import UpkeepAction
from flyted.plan.upkeep import may_remove
from flyted.plan.upkeep_facts import ImageFacts, UpkeepFacts


class Upkeep:
    """The upkeep that is under way: each action beside the passes, once at a time; its end asks for another pass.

    ``poke``: asks for a pass. So does ``clock``, at the moment that the last plan named, and when it was set.
    """

    def __init__(
        self, images: Images, unused: UnusedImages, tokens: IngressTokens, tls: Tls, acme: Acme, clock: Clock,
        execute: Execute, poke: Callable[[], None],
    ) -> None:  # fmt: skip
        self._images = images
        self._unused = unused
        self._tokens = tokens
        self._tls = tls
        self._acme = acme
        self._clock = clock
        self._execute = execute
        self._poke = poke
        self._under_way: dict[UpkeepAction, asyncio.Task[Any]] = {}

    def start(self) -> None:
        """Watch the clock, and users and groups, from now on."""
        self._clock.start(self._rang)
        self._tokens.start()

    def _rang(self, was_set: bool) -> None:  # noqa: FBT001  the answer to one question
        if was_set:
            self._tokens.changed()
            self._tls.clock_was_set()
            self._acme.kept.clock_was_set()
        self._poke()

    def facts(self) -> UpkeepFacts:
        """Return the current facts; the folder of images is read only when a removal is requested.

        Raises :class:`HostFailure` if systemd does not answer.
        """
        wanted, earlier = self._images.builds.wanted, self._images.builds.earlier.running()
        disk = self._unused.look() if may_remove(wanted, self._under_way, earlier) else None
        return UpkeepFacts(
            time=self._clock.time(),
            under_way=frozenset(self._under_way),
            images=ImageFacts(wanted, self._images.in_use(), disk, earlier),
            tokens=self._tokens.facts(),
            certificate=self._tls.facts(),
            orders=self._acme.kept.facts(),
            revocable=self._acme.kept.revocable(self._tls.told),
            apply_at=self._tls.apply_at(),
        )

    def heard(self, unit: str) -> bool:
        """Report whether the change of a unit can change the plan; "" stands for any unit."""
        return self._images.builds.earlier.heard(unit)

    def begin(self, action: UpkeepAction) -> None:
        """Begin an action of the plan that was made of :meth:`facts`, with nothing awaited in between."""
        self._under_way[action] = task = tasks.begin(self._execute.upkeep(action), known=(FlytedError,))
        task.add_done_callback(lambda _task: self._ended(action))

    def _ended(self, action: UpkeepAction) -> None:
        del self._under_way[action]
        self._poke()

    def wake_at(self, due: float | None) -> None:
        """Request a pass at ``due`` (seconds since 1970)."""
        self._clock.arm(due)

    def refuse(self, error: FlytedError) -> None:
        """Raise an error in the callers that wait for a build or a removal that has not begun.

        That is when the machine cannot be looked at.
        """
        self._images.builds.refuse(error, self._under_way)
        self._unused.refuse(error)
