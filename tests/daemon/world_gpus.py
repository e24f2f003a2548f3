"""The GPUs of the machine in memory: who uses them, when their memory comes back, and their loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flyted.plan.gpus.facts import Inventory, Process
from tests.plan.gpus import GIB, gpu
from tests.plan.gpus import machine as inventory_of_machine

USED_GIB = 30
"""What a program takes of its GPU: two of them do not fit on one."""
RETURN_S = 0.5


class WorldGpus:
    """One GPU. ``users()`` names the units whose programs use a device; ``answer_s``: how long the helper takes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, users: Callable[[str], list[str]]) -> None:
        self._loop, self._users = loop, users
        self._devices = {"GPU-1"}
        self._free_at: dict[str, float] = {}
        self.answer_s = 0.02
        self.on_xid: list[Callable[[str, int], None]] = []
        self.away: set[str] = set()
        self.lost_at = float("-inf")

    def freed(self, uuid: str) -> None:
        """A program that used a device has ended: its memory comes back a moment later."""
        self._free_at[uuid] = self._loop.time() + RETURN_S

    def lose(self, uuid: str, *, heard: bool) -> None:
        """A device falls off the bus; the driver says so, or nobody hears it."""
        self.away.add(uuid)
        self._devices.discard(uuid)
        self.lost_at = self._loop.time()
        for tell in list(self.on_xid) if heard else []:
            self._loop.call_soon(tell, uuid, 79)

    def restore(self) -> None:
        """The devices that were lost are back."""
        self._devices |= self.away
        self.away.clear()

    def inventory(self) -> Inventory:
        """The devices, each with the programs that use it."""
        found = []
        for uuid in sorted(self._devices):
            users = self._users(uuid)
            processes = tuple(Process(7, "python", unit, USED_GIB * GIB) for unit in users)
            left = USED_GIB if not users and self._free_at.get(uuid, 0.0) > self._loop.time() else 0
            found.append(gpu(uuid, used=left, processes=processes))
        return inventory_of_machine(*found)
