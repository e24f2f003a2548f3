"""When unused images are looked for: beside everything else, but never while one is built."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.errors import BuildFailed
from flyted.daemon.api.verbs import Emit
from flyted.daemon.images.builds import Build
from flyted.daemon.images.images import Images
from flyted.daemon.images.sweep import ImageSweep
from flyted.plan.facts import ImageFact, UnitEnd
from flyted.plan.images.build_unit import BuildSettings

HALF, OTHER = "a" * 32, "b" * 32


class Removals:
    """systemd: the unit that removes images."""

    def __init__(self) -> None:
        self.words: list[str] = []

    async def run_transient(self, _unit: str, properties: dict[str, Any]) -> UnitEnd:
        """As host.units."""
        self.words.append(str(properties))
        return UnitEnd("success", 0)


@pytest.mark.parametrize("fails", [False, True])
def test_a_look_that_met_a_build_is_made_up_for_after_it(tmp_path: Path, fails: bool) -> None:
    """Also when no deploy follows, as with a build ahead of the app; what a build left is deleted then."""
    (tmp_path / HALF).mkdir()
    nothing: Any = None
    systemd: Any = Removals()
    images = Images(systemd, tmp_path, BuildSettings(), nothing, nothing)
    sweep = ImageSweep(systemd, images, tuple, tmp_path / "notes.json")

    async def story() -> None:
        gates = {name: asyncio.Event() for name in (HALF, OTHER)}

        def begin(name: str) -> None:
            async def work(_emit: Emit) -> ImageFact:
                await gates[name].wait()
                if fails:
                    raise BuildFailed("no such package")
                return ImageFact("/i")

            images.building[name] = Build(work, lambda: images.building.pop(name))

        begin(HALF)
        sweep.soon()
        await asyncio.sleep(0.05)
        begin(OTHER)  # while the sweep waits for the first
        sweep.soon()
        gates[HALF].set()
        await asyncio.sleep(0.05)
        assert systemd.words == []
        gates[OTHER].set()
        async with asyncio.timeout(5):
            while not systemd.words:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    asyncio.run(story())
    (removal,) = systemd.words
    assert HALF in removal


def test_a_pipe_in_the_place_of_an_images_record_is_not_waited_for(tmp_path: Path) -> None:
    """Code of a package may have made it: the image is not a complete one."""
    nothing: Any = None
    images = Images(nothing, tmp_path, BuildSettings(), nothing, nothing)
    (tmp_path / HALF).mkdir()
    os.mkfifo(tmp_path / HALF / "image.json")
    assert images.found() == {HALF: False}
