"""Those who wait for a GPU: a line with a bound, and the decision for each of them in its turn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from flyted.contract.gpu import Ask
from flyted.contract.names import Replica

MAX_LINE = 16


@dataclass(eq=False)
class Waiting:
    """One start that systemd holds until we answer. ``since``: seconds since the epoch."""

    replica: Replica
    ask: Ask
    since: float
    answer: asyncio.Future[bytes]
    why: str = "its turn has not come yet"

    @property
    def unit(self) -> str:
        """The unit that starts."""
        return self.replica.service


@dataclass
class Line:
    """First come, first served: nobody overtakes on a device that one before him may get."""

    _waiting: list[Waiting] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether nobody else may wait."""
        return len(self._waiting) >= MAX_LINE

    @property
    def waiting(self) -> list[Waiting]:
        """Those without an answer, in their order."""
        return [each for each in self._waiting if not each.answer.done()]

    def join(self, waiting: Waiting) -> None:
        """At the end. A start of the same unit that came before is over."""
        self.dismiss(waiting.unit, b"")
        self._waiting.append(waiting)

    def leave(self, waiting: Waiting) -> None:
        """Answered, or tired of waiting."""
        self._waiting.remove(waiting)

    def dismiss(self, unit: str, answer: bytes) -> None:
        """Gives a unit an answer that it does not need any more."""
        for each in self.waiting:
            if each.unit == unit:
                each.answer.set_result(answer)
