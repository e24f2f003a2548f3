"""Steps of images that an earlier flyted has left: nobody records what they make, so they are stopped."""

from __future__ import annotations

import asyncio

from flyted.daemon.images.abandoned import stop_abandoned
from tests.daemon.fake_systemd import Systemd

LAYER, PULL = "flyted-layer-0123.service", "flyted-pull-4567.service"
LATER = "flyted-layer-89ab.service"


def test_steps_and_pulls_are_stopped_and_nothing_else() -> None:
    """A build of an environment counts without flyted; a removal is done in any case; what comes later is wanted."""

    async def work() -> None:
        units = Systemd()
        kept = ("flyted-build-cdef.service", "flyted-build-removal.service", "flyted-app-a-r1-0.service", LATER)
        for name in (LAYER, PULL, *kept[:-1]):
            units.set(name, "active")
        units.set("flyted-layer-ended.service", "failed")
        stop_abandoned(units)
        units.set(LATER, "active")
        await asyncio.sleep(0.05)
        assert [name for name in (LAYER, PULL, *kept) if not units.rests(name)] == list(kept)
        assert units.units["flyted-layer-ended.service"].active == "failed"

    asyncio.run(work())
