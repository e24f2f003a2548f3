"""The starts that wait for a GPU: bounded, first come, first served."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from flyted.contract.gpu import Ask
from flyted.contract.names import Replica
from flyted.plan.gpus.facts import Asking

MAX_LINE = 16


@dataclass(eq=False)
class Waiting:
    """One start that systemd holds until we answer. ``why``: why it waits. ``number``: no other start has it."""

    replica: Replica
    ask: Ask
    answer: asyncio.Future[bytes]
    why: str = "other starts are ahead of it"
    number: int = field(default_factory=itertools.count().__next__)

    @property
    def unit(self) -> str:
        """The unit that starts."""
        return self.replica.service

    @property
    def asking(self) -> Asking:
        """The start, as the planner sees it."""
        return Asking(self.replica, self.ask, self.why, self.number)


@dataclass
class WaitQueue:
    """The queue, in the order in which the starts came."""

    _waiting: list[Waiting] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """True if no other start may wait."""
        return len(self._waiting) >= MAX_LINE

    @property
    def waiting(self) -> list[Waiting]:
        """The starts without an answer, in their order."""
        return [each for each in self._waiting if not each.answer.done()]

    def find(self, unit: str) -> Waiting | None:
        """Return the start of a unit that waits for its answer, or ``None``."""
        return next((each for each in self.waiting if each.unit == unit), None)

    def still(self, asked: Iterable[Asking]) -> set[str]:
        """Return the units of those starts that still wait: another start of the unit may have taken the place."""
        numbers = {each.number for each in self.waiting}
        return {each.unit for each in asked if each.number in numbers}

    def join(self, waiting: Waiting) -> None:
        """Add a start at the end. An earlier start of the same unit is over, and gets an empty answer."""
        self.answer(waiting.unit, b"")
        self._waiting.append(waiting)

    def leave(self, waiting: Waiting) -> None:
        """Remove a start that was answered, or has waited for too long."""
        self._waiting.remove(waiting)

    def answer(self, unit: str, answer: bytes) -> None:
        """Answer the start of a unit, if it waits."""
        if (waiting := self.find(unit)) is not None:
            waiting.answer.set_result(answer)
