"""Tells whoever wants to know of each pass of the loop: what it saw, and what it decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from flyted.plan.facts import Facts
from flyted.plan.reconcile import Plan

T = TypeVar("T")


@dataclass(frozen=True)
class Pass:
    """What a pass saw and decided. ``news``: unit → the news about its GPUs, for people."""

    facts: Facts
    plan: Plan
    news: Mapping[str, str]


class Listeners:
    """The functions that are called with each pass, when it is decided and before it is carried out."""

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[Pass], None], ...] = ()

    def tell(self, done: Pass) -> None:
        """Call all of them."""
        for listener in self._listeners:
            listener(done)

    def add(self, listener: Callable[[Pass], None]) -> Callable[[], None]:
        """Call ``listener`` with each pass from now on; return what ends that."""
        self._listeners = (*self._listeners, listener)

        def leave() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return leave

    async def heard(self, about: Callable[[Pass], T | None]) -> AsyncGenerator[T]:
        """Yield what ``about`` returns of each pass, unless it is ``None``, as soon as it is decided; never end."""
        found: asyncio.Queue[T] = asyncio.Queue()

        def listen(done: Pass) -> None:
            if (said := about(done)) is not None:
                found.put_nowait(said)

        leave = self.add(listen)
        try:
            while True:
                yield await found.get()
        finally:
            leave()
