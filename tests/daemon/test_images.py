"""Images on disk."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.errors import Unsupported
from flyted.daemon.images.images import Images
from flyted.host import machine
from flyted.plan.images.build_unit import BuildSettings
from flyted.plan.images.recipe import Recipe
from flyted.plan.images.root import RootRecipe
from tests.values import spec

HALF = "a" * 32


def test_a_pipe_in_the_place_of_an_images_record_is_not_waited_for(tmp_path: Path) -> None:
    """Code of a package may have made it: the image is not a complete one."""
    nothing: Any = None
    images = Images(nothing, tmp_path, BuildSettings(), nothing, nothing, nothing, nothing)
    (tmp_path / HALF).mkdir()
    os.mkfifo(tmp_path / HALF / "image.json")
    assert images.found() == {HALF: False}


IMAGES = json.loads((Path(__file__).parents[1] / "plan/plugin_images.json").read_text())
SGLANG = IMAGES["sglang"]


@pytest.mark.parametrize(("have", "venv"), [({"/usr/bin/llama-server"}, True), (set(), False)])
def test_what_this_machine_has_decides_how_a_plug_ins_image_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, have: set[str], *, venv: bool
) -> None:
    """For an app as for a build ahead of it."""
    nothing: Any = None
    images = Images(nothing, tmp_path, BuildSettings(), nothing, nothing, nothing, nothing)
    monkeypatch.setattr(machine, "has", have.__contains__)
    image = {"spec": IMAGES["llamacpp"]}
    recipe = images.recipe_for(spec("a", image=image))
    assert isinstance(recipe, Recipe if venv else RootRecipe)
    assert images.recipe(image, "default", "development") == recipe


def test_an_engine_is_not_built_for_a_machine_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gigabytes of CUDA."""
    asked = []

    async def need(what: str) -> None:
        asked.append(what)

    nothing: Any = None
    images = Images(nothing, tmp_path, BuildSettings(), nothing, need, nothing, nothing)
    monkeypatch.setattr(machine, "has", lambda _: False)
    image = {"spec": SGLANG}
    asyncio.run(images.check_machine(images.recipe(image, "default", "development"), image))
    assert asked == ["sglang==0.5.16"]
    wanted = spec("a", image=image, command=("python", "-m", "sglang.launch_server", "--model-path", "x"), port=8080)
    with pytest.raises(Unsupported, match=r"sglang==0\.5\.16 in the image of app 'a' is a build for GPUs"):
        images.check(wanted)
