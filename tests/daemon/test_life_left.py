"""Who waits for a build and leaves, on the machine of ``life.py``: the last one ends it, and its unit is stopped."""

from __future__ import annotations

import pytest

from tests.daemon.life import Asked, Life, up
from tests.daemon.rest import rest
from tests.daemon.test_life_prune import of
from tests.daemon.test_life_pull import pull
from tests.daemon.test_life_rebuild import rebuild, serving
from tests.daemon.test_life_roots import folders, recorded, runs, serve

SECONDS = [0.5, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0]
"""Moments of a build of layers, each of which takes two seconds."""
SPEC = {"baseImage": "ghcr.io/flyteorg/flyte:py3.12-v2.1.0", "layers": [{"aptPackages": {"packages": ["jq"]}}]}


def units(life: Life) -> set[str]:
    """The units of builds that run."""
    return {name for name in life.world.steps.names if "removal" not in name}


def stopped(life: Life) -> None:
    """Nothing is being built, and nothing half made is left."""
    life.run(1)
    assert units(life) == set()
    assert folders(life) == recorded(life)
    life.run(60)
    assert units(life) == set()


@pytest.mark.parametrize("registry", [False, True])
@pytest.mark.parametrize("after_s", SECONDS)
def test_who_leaves_while_an_image_is_built_calls_the_deploy_off(life: Life, after_s: float, registry: bool) -> None:
    """Nothing has changed for what serves; the steps that were finished are kept, and the next deploy takes them."""
    life.world.layers.registry = registry
    before = up(life)
    asked = serve(life, "a", "one")
    life.run(after_s)
    assert units(life) != set()
    life.leave(asked)
    stopped(life)
    assert (asked.end, serving(life, "a")) == ("left", before.revision)
    assert [each.number for each in life.running.store.app("a").revisions] == [before.revision]
    assert len(life.world.steps.stopped) == 1
    kept, begun = recorded(life), len(life.world.layers.made)
    again = serve(life, "a", "one")
    life.run(60)
    assert again.end == "done"
    assert len(life.world.layers.made) - begun == len(recorded(life)) - len(kept)
    rest(life)


@pytest.mark.parametrize("verb", ["stop", "delete"])
@pytest.mark.parametrize("image", ["layers", "environment"])
def test_a_stop_that_calls_a_deploy_off_ends_its_build(life: Life, verb: str, image: str) -> None:
    """The same as if its client had left; the next deploy is not held up."""
    asked = serve(life, "a", "one") if image == "layers" else life.serve("a", build="httpx")
    life.run(3)
    ended = life.call(verb, "a", **({"keep_data": False} if verb == "delete" else {}))
    life.run(1)
    assert ended.end == "done"
    assert asked.end.startswith("DeployFailed: the deploy of app 'a' was cancelled")
    stopped(life)
    assert list(life.world.images.iterdir()) == []
    again = serve(life, "a", "one")
    life.run(60)
    assert again.end == "done"
    rest(life)


def test_somebody_else_who_waits_keeps_a_build_alive(life: Life) -> None:
    """Of the same image, and of one that only begins alike: what nobody wants is not made."""
    asked = [serve(life, "a", "one"), serve(life, "b", "one"), serve(life, "c", "two")]
    life.run(5)
    life.leave(asked[0])
    life.run(1)
    assert asked[0].end == "left"
    assert life.world.steps.stopped == []
    life.leave(asked[1])
    life.run(60)
    assert [each.end for each in asked] == ["left", "left", "done"]
    assert "two" in runs(life)
    assert "one" not in runs(life)
    assert life.world.steps.stopped == []
    rest(life)


def test_who_asks_while_a_unit_is_being_stopped_gets_a_build_of_his_own(life: Life) -> None:
    """It begins when the other has ended: no two make one layer, and no other is cancelled with the first."""
    asked = serve(life, "a", "one")
    life.run(5)
    life.world.job_s = 0.5
    life.leave(asked)
    life.run(0.2)
    assert units(life) != set()
    other = serve(life, "b", "one")
    life.run(60)
    assert (asked.end, other.end, len(life.world.steps.stopped)) == ("left", "done", 1)
    rest(life)


def test_who_leaves_before_a_build_begins_is_forgotten(life: Life) -> None:
    """A pass has decided to begin it, and it has not begun."""
    for count in range(12):
        asked = life.serve("a", build="httpx")
        life.steps(count)
        life.leave(asked)
        life.run(1)
        assert asked.end == "left"
        stopped(life)
    again = life.serve("a", build="httpx")
    life.run(10)
    assert again.end == "done"
    rest(life)


def test_who_leaves_while_the_app_starts_changes_nothing(life: Life) -> None:
    """flyted goes on with it."""
    asked = serve(life, "a", "one")
    life.world.start_s = 5.0
    until_it_starts(life, asked)
    life.leave(asked)
    life.run(10)
    assert (asked.end, serving(life, "a")) == ("done", 1)
    rest(life)


def until_it_starts(life: Life, asked: Asked) -> None:
    while not any(text.startswith("starting ") for text in asked.says):
        life.run(0.1)
        assert not asked.end


@pytest.mark.parametrize("registry", [False, True])
@pytest.mark.parametrize("verb", ["image.build", "image.pull"])
@pytest.mark.parametrize("after_s", [1.0, 3.0, 5.0])
def test_who_leaves_calls_off_a_build_or_pull_ahead(life: Life, verb: str, after_s: float, registry: bool) -> None:
    """Nothing half made stays; it can be asked for again."""
    life.world.layers.registry = registry or verb == "image.pull"

    def ask() -> Asked:
        if verb == "image.pull":
            return pull(life)
        return life.ask(verb, project="p", domain="d", image={"spec": SPEC}, bundles=[])

    asked = ask()
    life.run(after_s)
    assert units(life) != set()
    life.leave(asked)
    stopped(life)
    assert (asked.end, len(life.world.steps.stopped)) == ("left", 1)
    again = ask()
    life.run(60)
    assert again.end == "done"
    rest(life)


def test_who_leaves_a_rebuild_changes_nothing(life: Life) -> None:
    """While the image is built; the deploys after that go on, whoever leaves."""
    serve(life, "a", "one")
    life.run(60)
    old = of(life, "a")
    asked = rebuild(life, old)
    life.run(5)
    life.leave(asked)
    stopped(life)
    assert (asked.end, of(life, "a"), serving(life, "a")) == ("left", old, 1)
    life.world.start_s = 5.0
    again = rebuild(life, old)
    until_it_starts(life, again)
    life.leave(again)
    life.run(10)
    assert (again.end, serving(life, "a")) == ("done", 2)
    assert of(life, "a") == again.answer.hash != old
    rest(life)


@pytest.mark.parametrize("killed", [False, True])
def test_the_end_of_flyted_does_not_end_a_build(life: Life, killed: bool) -> None:
    """Its clients are lost with it, and nobody has left: the unit goes on, and the next deploy waits for its end."""
    serve(life, "a", "one")
    life.run(5)
    (unit,) = units(life)
    life.end(killed=killed)
    assert units(life) == {unit}
    life.start()
    asked = serve(life, "a", "one")
    life.run(60)
    assert (asked.end, life.world.steps.stopped) == ("done", [])
    rest(life)


def test_who_leaves_ends_the_unit_that_an_earlier_flyted_has_left(life: Life) -> None:
    """It is the same step, which is waited for, and may take an hour."""
    life.world.layers.step_s = 600.0
    life.world.layers.fails = "never"
    serve(life, "a", "one")
    life.run(1300)
    (unit,) = units(life)
    life.end(killed=True)
    life.start()
    asked = serve(life, "a", "one")
    life.world.layers.step_s = 2.0
    life.run(5)
    assert units(life) == {unit}
    life.leave(asked)
    stopped(life)
    assert (asked.end, life.world.steps.stopped) == ("left", [unit])
    rest(life)
