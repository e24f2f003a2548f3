"""``image rebuild`` on the machine of ``life.py``: what is made anew, who gets it, and what fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flyted.daemon.images.renewed import Renewals
from flyted.plan.images.unused import KEPT_S
from tests.daemon.life import BASE, Asked, Life
from tests.daemon.rest import rest
from tests.daemon.test_life_prune import of
from tests.daemon.test_life_roots import folders, recorded, runs, serve


def rebuild(life: Life, image: str, *, deploy: bool = True) -> Asked:
    """Rebuild an image by its hash."""
    return life.ask("image.rebuild", hash=image, deploy=deploy)


def venv(life: Life, app: str, **changes: object) -> Asked:
    """Deploy an app whose image is a Python environment."""
    return life.serve(app, build="httpx", **changes)  # type: ignore[arg-type]


def serving(life: Life, app: str) -> int | None:
    return life.running.store.app(app).serving


@pytest.mark.parametrize("kind", ["layers", "environment"])
def test_apps_are_deployed_onto_the_rebuilt_image(life: Life, kind: str) -> None:
    """All that use it, with requests going on; a later deploy stays there, and another rebuild makes another."""
    deploy = venv if kind == "environment" else lambda life, app, **more: serve(life, app, "one", **more)
    for app in "ab":
        deploy(life, app)
        life.run(60)
    old = of(life, "a")
    assert of(life, "b") == old
    request = life.request("a", takes_s=20)
    asked = rebuild(life, old[:12])
    life.run(60)
    assert asked.end == "done", asked.end
    new = asked.answer.hash
    assert (asked.answer.before, asked.answer.deployed, asked.answer.left) == (old, ("a", "b"), ())
    assert [of(life, app) for app in "ab"] == [new, new] != [old, old]
    assert [serving(life, app) for app in "ab"] == [2, 2]
    assert request.end == "answered"
    again = deploy(life, "a", version=7)
    life.run(60)
    assert (again.end, serving(life, "a"), of(life, "a")) == ("done", 3, new)
    built = len(life.world.built), len(life.world.layers.made)
    third = rebuild(life, new)
    life.run(60)
    assert (third.end, third.answer.before) == ("done", new)
    assert third.answer.hash not in (old, new)
    assert (len(life.world.built), len(life.world.layers.made)) != built
    rest(life)


def two_apps(life: Life) -> str:
    """Apps a and b serve in one image of layers; its hash."""
    for app in "ab":
        serve(life, app, "one")
        life.run(60)
    return of(life, "a")


def test_an_app_that_is_stopped_gets_it_with_its_next_deploy(life: Life) -> None:
    """It starts again in the old one, since a revision never changes. What was not deployed counts as changed."""
    for app in "abc":
        serve(life, app, "one", version=1)
        life.run(60)
    old = of(life, "a")
    life.call("stop", "b")
    life.run(5)
    asked = rebuild(life, old)
    life.run(60)
    assert (asked.end, asked.answer.deployed, asked.answer.left) == ("done", ("a", "c"), ("b",))
    life.call("start", "b")
    life.run(5)
    assert (of(life, "b"), serving(life, "b")) == (old, 1)
    serve(life, "b", "one", version=1)
    life.run(60)
    assert (of(life, "b"), serving(life, "b")) == (asked.answer.hash, 2)
    rest(life)


def test_without_a_deploy_apps_get_it_with_their_next_one(life: Life) -> None:
    """Also if nothing else of it has changed; then it stays."""
    serve(life, "a", "one", version=1)
    life.run(60)
    old = of(life, "a")
    asked = rebuild(life, old, deploy=False)
    life.run(60)
    assert (asked.end, asked.answer.deployed, asked.answer.left) == ("done", (), ("a",))
    assert (of(life, "a"), serving(life, "a")) == (old, 1)
    for _ in range(2):
        serve(life, "a", "one", version=1)
        life.run(60)
        assert (of(life, "a"), serving(life, "a")) == (asked.answer.hash, 2)
    rest(life)


def test_a_build_that_fails_changes_nothing(life: Life) -> None:
    """Neither the app nor what a later deploy gets, although the first steps were made anew."""
    serve(life, "a", "one", "two")
    life.run(60)
    old, layers = of(life, "a"), recorded(life)
    life.world.layers.fails = '"two"'
    asked = rebuild(life, old)
    life.run(60)
    assert asked.end.startswith("BuildFailed: layer 2 of the image: two: it exited with status 100"), asked.end
    assert runs(life)[-2:] == ["one", "two"]
    assert recorded(life) > layers
    made = len(life.world.layers.made)
    serve(life, "a", "one", "two")
    life.run(60)
    assert (of(life, "a"), serving(life, "a"), len(life.world.layers.made)) == (old, 2, made)
    pruned = life.ask("image.prune")
    life.run(5)
    assert (pruned.end, recorded(life), folders(life)) == ("done", layers, layers)
    rest(life)


def test_what_failed_is_not_tried_again_for_an_app_of_the_same_recipe(life: Life) -> None:
    """A registry that is silent is waited for once, however many apps use the image."""
    for app in ("a", "b"):
        serve(life, app, "one", "two")
        life.run(60)
    made = len(runs(life))
    life.world.layers.fails = '"two"'
    asked = rebuild(life, of(life, "a"))
    life.run(60)
    assert asked.end.startswith("BuildFailed: layer 2 of the image: two: it exited with status 100"), asked.end
    assert [step for step in runs(life)[made:] if step in {"one", "two"}] == ["one", "two"]
    rest(life)


def test_if_no_app_comes_up_the_old_image_counts_again(life: Life) -> None:
    """The revisions before serve on; another deploy gets the old image."""
    old = two_apps(life)
    life.world.dying |= {"a", "b"}
    asked = rebuild(life, old)
    life.run(100)
    assert asked.end.startswith("DeployFailed: the image was rebuilt, but not every app started with it: a: "), (
        asked.end
    )
    assert asked.end.endswith("; the old image is used again")
    life.world.dying.clear()
    assert [serving(life, app) for app in "ab"] == [1, 1]
    serve(life, "a", "one")
    life.run(60)
    assert of(life, "a") == old
    rest(life)


def test_an_app_that_does_not_come_up_keeps_the_old_image_and_others_get_the_new_one(life: Life) -> None:
    """It gets the new one with its next deploy."""
    old = two_apps(life)
    life.world.dying.add("a")
    asked = rebuild(life, old)
    life.run(100)
    life.world.dying.clear()
    assert asked.end.startswith("DeployFailed"), asked.end
    assert not asked.end.endswith("is used again")
    assert (serving(life, "a"), serving(life, "b")) == (1, 2)
    serve(life, "a", "one")
    life.run(60)
    assert of(life, "a") == of(life, "b") != old
    rest(life)


def test_a_newer_base_alone_is_a_rebuild_and_nothing_newer_is_none(life: Life) -> None:
    """A tag that moved, by what the registry says; without one nothing is made or deployed."""
    life.world.layers.registry = True
    life.serve("a", image={"spec": {"baseImage": "nginx:1.27"}}, command=("nginx",), port=8080)
    life.run(60)
    old = of(life, "a")
    asked = rebuild(life, old)
    life.run(60)
    assert (asked.end, asked.answer.hash, asked.answer.deployed, serving(life, "a")) == ("done", old, (), 1)
    life.world.layers.blob = f"sha256:{'9' * 64}"
    asked = rebuild(life, old)
    life.run(60)
    assert (asked.end, asked.answer.deployed, of(life, "a")) == ("done", ("a",), asked.answer.hash)
    del life.world.layers.blob
    back = rebuild(life, asked.answer.hash)
    life.run(60)
    assert (back.end, back.answer.hash, of(life, "a"), serving(life, "a")) == ("done", old, old, 3)
    life.serve("a", image={"spec": {"baseImage": "nginx:1.27"}}, command=("nginx",), port=8080, version=1)
    life.run(60)
    revision = serving(life, "a")
    life.serve("a", image={"spec": {"baseImage": "nginx:1.27"}}, command=("nginx",), port=8080, version=1)
    life.run(60)
    assert serving(life, "a") == revision, "it is what its recipe gives now"
    rest(life)


def test_a_base_that_was_pulled_is_not_replaced_by_a_debian(life: Life) -> None:
    """Where its registry does not answer now, the old image stays."""
    life.world.layers.registry = True
    serve(life, "a", "one")
    life.run(60)
    life.world.layers.registry = False
    asked = rebuild(life, of(life, "a"))
    life.run(60)
    assert asked.end.startswith(f"BuildFailed: {BASE}: registry does not answer"), asked.end
    assert serving(life, "a") == 1
    rest(life)


def test_only_an_image_that_apps_use_can_be_rebuilt_once_at_a_time(life: Life) -> None:
    """Nobody else knows the recipe; unknown ones are told as image get tells them."""
    serve(life, "a", "one")
    life.run(60)
    old = of(life, "a")
    first, second = rebuild(life, old), rebuild(life, old[:5])
    life.run(1)
    assert second.end == f"Busy: image {old[:12]} is already being rebuilt"
    life.run(60)
    assert first.end == "done"
    for image, words in ((old, "InvalidInput: no app uses image"), ("f" * 32, "NotFound"), ("x", "InvalidInput")):
        asked = rebuild(life, image)
        life.run(1)
        assert asked.end.startswith(words), asked.end
    rest(life)


def test_what_was_rebuilt_is_forgotten_with_its_layers(life: Life) -> None:
    """The file does not grow; what is made then is new anyway."""
    file = Path(life.world.folder, "renewed-images.json")
    serve(life, "a", "one")
    life.run(60)
    rebuild(life, of(life, "a"))
    life.run(60)
    known = Renewals(file).known
    assert (len(known.ids), len(known.images)) == (1, 1)
    life.ask("image.prune")
    life.run(5)
    known = Renewals(file).known
    assert (len(known.ids), len(known.images)) == (1, 0), "the new layer is there, the old image is not"
    life.call("delete", "a", keep_data=False)
    life.run(5)
    life.set_clock(KEPT_S + 1)
    life.running.unused.soon()
    life.run(5)
    assert json.loads(file.read_text()) == {"ids": {}, "images": {}}
    rest(life)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"ids": {"a": "b"}, "images": {}}', '{"ids": 1, "images": 2}'])
def test_a_damaged_record_is_as_none(tmp_path: Path, text: str) -> None:
    """Images are then as they were before; no text of it becomes a path."""
    file = tmp_path / "renewed-images.json"
    file.write_text(text)
    assert not Renewals(file).known.ids


TWO_STAGES = {"name": "Dockerfile", "text": "FROM base:1 AS b\nRUN make /x\nFROM base:1\nCOPY --from=b /x /x\n"}


def test_what_was_rebuilt_counts_also_when_the_stage_that_was_copied_from_is_gone(life: Life) -> None:
    """No app needs its layers, so they are removed; the next deploy makes nothing and does not go back."""

    def deploy(app: str) -> None:
        life.serve(app, image={"spec": {"dockerfile": TWO_STAGES}}, command=("x",), port=8080)
        life.run(60)

    life.world.layers.registry = True
    for app in "ab":
        deploy(app)
    old = of(life, "a")
    life.call("stop", "b")
    asked = rebuild(life, old)
    life.run(60)
    assert (asked.end, asked.answer.left) == ("done", ("b",)), asked.end
    pruned = life.ask("image.prune")
    life.run(5)
    assert pruned.answer.layers == 2, "the stage, before and after"
    made = len(life.world.layers.made)
    for app in "ab":
        deploy(app)
        assert of(life, app) == asked.answer.hash
    assert len(life.world.layers.made) == made
    for app in "ab":
        life.call("delete", app, keep_data=False)
        life.run(5)
    life.ask("image.prune")
    life.run(5)
    assert not Renewals(Path(life.world.folder, "renewed-images.json")).known.ids
    rest(life)
