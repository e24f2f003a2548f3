"""Builds and removals that an earlier flyted began and that still run, on the machine of ``life.py``."""

from __future__ import annotations

import pytest

from tests.daemon.life import Life
from tests.daemon.rest import rest
from tests.daemon.test_life_images import HALF, half, images, unused_environment
from tests.daemon.test_life_roots import folders, recorded, serve


def restarted(life: Life, *, killed: bool) -> str:
    """flyted ends and starts while a unit of a build runs; return that unit."""
    (unit,) = life.world.steps.names
    life.end(killed=killed)
    life.start()
    life.run(0.5)
    assert life.world.steps.names == {unit}
    return unit


@pytest.mark.parametrize("killed", [False, True])
def test_the_search_at_a_start_waits_for_the_end_of_a_build(life: Life, killed: bool) -> None:
    """Then it deletes what was half made before; the image that is complete by then is kept like every unused one."""
    life.serve("a", build="httpx")
    life.run(1)
    half(life, HALF)
    unit = restarted(life, killed=killed)
    assert images(life) == {HALF, unit.removeprefix("flyted-build-").removesuffix(".service")}
    life.run(10)
    (left,) = images(life)
    assert left in unit
    assert not life.world.faults
    rest(life)


@pytest.mark.parametrize("killed", [False, True])
def test_a_step_keeps_the_layers_below_it(life: Life, killed: bool) -> None:
    """Also if somebody wants all that is unused removed; who waits is told which unit runs."""
    life.world.layers.registry = True
    serve(life, "a", "one")
    life.run(7)
    parents = recorded(life)
    assert parents
    unit = restarted(life, killed=killed)
    asked, dry = life.ask("image.prune"), life.ask("image.unused")
    life.run(0.2)
    said = f"{unit} was begun before flyted was restarted, and still runs; nothing is deleted before it ends"
    assert asked.says == dry.says == [said]
    assert (asked.end, dry.end) == ("", "done")
    assert recorded(life) == parents
    life.run(10)
    assert asked.end == "done"
    assert (folders(life), recorded(life)) == (set(), set())
    assert not (life.world.folder / "blobs").exists()
    rest(life)


def test_what_a_step_leaves_is_deleted_when_it_ends(life: Life) -> None:
    """Its layer has no record, and nobody has to ask; the layers below it stay for the next serve."""
    serve(life, "a", "one")
    life.run(7)
    unit = restarted(life, killed=True)
    assert folders(life) - recorded(life) == {unit.removeprefix("flyted-layer-").removesuffix(".service")}
    before = recorded(life)
    life.run(10)
    assert folders(life) == recorded(life) == before
    rest(life)


def test_who_wants_the_same_image_waits_for_the_unit(life: Life) -> None:
    """And for nothing else: the other builds begin."""
    life.serve("a", build="httpx")
    life.run(1)
    restarted(life, killed=True)
    asked = [life.serve("a", build="httpx"), life.serve("b", build="flask")]
    life.run(1)
    assert len(life.world.steps.names) == 2
    life.run(20)
    assert [each.end for each in asked] == ["done", "done"]
    rest(life)


def test_who_wants_an_image_that_is_being_deleted_gets_a_new_one(life: Life) -> None:
    """Its record is still there when the deploy begins."""
    unused_environment(life)
    life.world.removal_s = 5.0
    life.ask("image.prune")
    life.run(1)
    restarted(life, killed=True)
    asked = life.serve("a", build="httpx")
    life.run(2)
    assert (len(images(life)), len(life.world.built), asked.end) == (1, 1, "")
    life.run(20)
    assert (len(images(life)), len(life.world.built), asked.end) == (1, 2, "done")
    rest(life)
