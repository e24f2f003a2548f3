"""The queue of starts that wait for a GPU: bounded, first come, first served."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from flyted.contract.gpu import Ask
from flyted.contract.names import Replica

MAX_LINE = 16


@dataclass(eq=False)
class Waiting:
    """One start that systemd holds until we answer. ``since``: seconds since the epoch; ``why``: why it waits."""

    replica: Replica
    ask: Ask
    since: float
    answer: asyncio.Future[bytes]
    why: str = "other starts are ahead of it"

    @property
    def unit(self) -> str:
        """The unit that starts."""
        return self.replica.service


@dataclass
class Line:
    """The queue: no start overtakes an earlier one on a device that the earlier one may get."""

    _waiting: list[Waiting] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether no other start may wait."""
        return len(self._waiting) >= MAX_LINE

    @property
    def waiting(self) -> list[Waiting]:
        """The starts without an answer, in their order."""
        return [each for each in self._waiting if not each.answer.done()]

    def join(self, waiting: Waiting) -> None:
        """Add a start at the end. An earlier start of the same unit is over, and gets an empty answer."""
        self.dismiss(waiting.unit, b"")
        self._waiting.append(waiting)

    def leave(self, waiting: Waiting) -> None:
        """Remove a start that was answered, or has waited for too long."""
        self._waiting.remove(waiting)

    def dismiss(self, unit: str, answer: bytes) -> None:
        """Answer the waiting starts of a unit, which need no GPU any more."""
        for each in self.waiting:
            if each.unit == unit:
                each.answer.set_result(answer)
