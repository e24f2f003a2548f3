"""Root images on the machine of ``life.py``: their layers, one by one, and what goes on beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from flyted.contract.errors import SecretNotFound
from flyted.daemon.images import layers_on_disk, roots
from flyted.daemon.images.listing import ImageVerbs
from flyted.plan.images.unused import KEPT_S
from tests.daemon.life import BASE, Asked, Life
from tests.daemon.rest import rest
from tests.daemon.world_layers import TAKES


def serve(life: Life, app: str, *commands: str, version: int = 0) -> Asked:
    """Deploy an app whose image runs commands, after apt."""
    layers = [{"aptPackages": {"packages": ["jq"]}}, {"commands": {"cmd": list(commands)}}]
    return life.serve(app, image={"spec": {"baseImage": BASE, "layers": layers}}, version=version)


def recorded(life: Life) -> set[str]:
    """The layers that have a record."""
    return {path.stem for path in (life.world.folder / "roots/layers").glob("*.json")}


def folders(life: Life) -> set[str]:
    """The layers that have a folder."""
    return {path.parent.name for path in life.world.folder.glob("layers/*/diff")}


def runs(life: Life) -> list[str]:
    """What the steps that were begun show."""
    steps = [json.loads(text)["step"] for text in life.world.layers.made]
    return [step["show"] for step in steps if "show" in step]


def test_an_image_is_made_layer_by_layer(life: Life) -> None:
    """Each step is told with its number; the image is known with its Python, and its app runs in it."""
    asked = serve(life, "a", "touch /x")
    life.run(60)
    assert asked.end == "done"
    steps = [text for text in asked.says if text.startswith("step ")]
    assert steps[0].endswith(": install Debian bookworm"), steps
    assert steps[-1].endswith(": touch /x")
    count = len(steps)
    assert [text.partition(":")[0] for text in steps] == [f"step {number + 1}/{count}" for number in range(count)]
    assert any("a Debian is installed in its place" in text for text in asked.says)
    assert len(recorded(life)) == count
    assert recorded(life) == folders(life)
    image = life.running.store.app("a").revisions[0].image
    assert image.root is not None
    assert (len(image.root.layers), image.root.python, image.python) == (count, "/opt/venv/bin/python", "3.12")
    rest(life)


def test_an_image_is_listed_with_its_layers_and_their_sizes(life: Life) -> None:
    """The program of steps says what a layer takes, which is not for whoever watches the build."""
    asked = serve(life, "a", "touch /x")
    life.run(60)
    assert not any("takes" in text for text in asked.says)
    verbs, nobody = ImageVerbs(life.running.unused.images, life.running.store.apps), cast("Any", None)
    (entry,) = life.loop.run_until_complete(verbs.listed(nobody)).images
    assert (entry.python, entry.packages, entry.used_by) == ("3.12", 0, ("a",))
    assert entry.hash == life.running.store.app("a").revisions[0].image.hash
    assert (entry.layers[0].source, entry.layers[-1].source) == ("install Debian bookworm", "touch /x")
    assert entry.bytes == TAKES * len(entry.layers)
    assert all(layer.seconds > 0 for layer in entry.layers)


def test_two_who_want_one_image_wait_for_one_build(life: Life) -> None:
    """Also a third whose image only begins alike: the layers that both have are made once."""
    asked = [serve(life, "a", "one"), serve(life, "b", "one"), serve(life, "c", "two")]
    life.run(60)
    assert [each.end for each in asked] == ["done"] * 3
    assert len(life.world.layers.made) == len(set(life.world.layers.made))
    assert runs(life).count("apt-get install jq") == 1
    assert {"one", "two"} <= set(runs(life))
    assert any("is already being built; waiting for it" in text for text in asked[2].says)
    rest(life)


def test_a_step_that_fails_leaves_those_before_it(life: Life) -> None:
    """All who wait are told why; the next build begins at that step."""
    life.world.layers.fails = "apt-get install"
    asked = [serve(life, app, "one") for app in ("a", "b")]
    life.run(60)
    for each in asked:
        assert each.end.startswith(
            "BuildFailed: layer 1 of the image: apt-get install jq: it exited with status 100"
        ), each.end
        assert "Unable to locate package nope" in each.end
    before = len(life.world.layers.made)
    assert len(recorded(life)) == before - 1
    life.world.layers.fails = ""
    again = serve(life, "a", "one")
    life.run(60)
    assert again.end == "done"
    assert runs(life)[-3:] == ["apt-get install jq", "apt-get install jq", "one"]
    assert len(life.world.layers.made) == before + 2
    rest(life)


@pytest.mark.parametrize("registry", [False, True])
@pytest.mark.parametrize("after_s", [1, 3, 5, 7, 9, 11, 13, 15])
def test_a_daemon_that_is_killed_during_a_build_goes_on_with_it(life: Life, after_s: float, registry: bool) -> None:
    """What has no record is made anew; what has one is kept."""
    life.world.layers.registry = registry
    serve(life, "a", "one")
    life.run(after_s)
    whole = recorded(life)
    life.end(killed=True)
    life.start()
    begun = len(life.world.layers.made)
    asked = serve(life, "a", "one")
    life.run(60)
    assert asked.end == "done"
    after = {json.loads(text)["layer"] for text in life.world.layers.made[begun:]}
    assert not after & whole
    assert recorded(life) == folders(life)
    rest(life)


@pytest.mark.parametrize("registry", [False, True])
@pytest.mark.parametrize("after_s", [1, 3, 5, 7, 9, 11])
def test_a_unit_that_is_killed_fails_its_build_alone(life: Life, after_s: float, registry: bool) -> None:
    """All who wait are told; nothing half made stays, and the same serve works, with what was finished."""
    life.world.layers.registry = registry
    asked = [serve(life, app, "one") for app in "ab"]
    life.run(after_s)
    whole = recorded(life)
    (unit,) = life.world.steps.names
    life.world.steps.kill(unit)
    life.run(60)
    registry_is_passed_over = unit.startswith("flyted-pull-") and not registry
    if not registry_is_passed_over:
        assert all(each.end.startswith(("BuildFailed: ", "HostFailure: ")) for each in asked), asked
        assert folders(life) == recorded(life) == whole
    life.world.layers.registry = True
    again = [serve(life, app, "one") for app in "ab"]
    life.run(60)
    assert [each.end for each in again] == ["done", "done"]
    assert whole <= recorded(life) == folders(life)
    rest(life)


def test_layers_without_a_record_are_removed_and_others_stay_while_they_are_needed(life: Life) -> None:
    """Not during a build; unused ones after a week, with their image."""
    asked = serve(life, "a", "one")
    half = life.world.folder / "layers" / ("f" * 32)
    (half / "diff").mkdir(parents=True)
    life.run(3)
    life.running.unused.soon()
    life.run(3)
    assert half.exists()
    life.run(60)
    assert (asked.end, half.exists()) == ("done", False)
    image = life.running.store.app("a").revisions[0].image
    life.set_clock(KEPT_S + 1)
    life.running.unused.soon()
    life.run(5)
    assert life.running.images.present(image)
    life.call("delete", "a", keep_data=False)
    life.run(10)
    life.set_clock(KEPT_S + 1)
    life.running.unused.soon()
    life.run(10)
    assert (folders(life), recorded(life)) == (set(), set())
    assert list(Path(life.world.folder, "roots").glob("*.json")) == []
    rest(life)


def test_a_base_that_its_registry_has_is_pulled_and_unpacked(life: Life) -> None:
    """It is looked up at each deploy, and pulled by digest when a layer of it is missing."""
    life.world.layers.registry = True
    assert serve(life, "a", "one").end == ""
    life.run(60)
    assert life.running.store.app("a").serving == 1
    name = BASE.partition(":")[0]
    assert life.world.layers.pulled == [BASE, f"{name}@sha256:{'d' * 64}"]
    serve(life, "b", "one")
    life.run(10)
    assert life.world.layers.pulled[2:] == [BASE]
    assert ("A", "1") in life.running.store.app("b").revisions[0].image.env
    blobs = life.world.folder / "blobs"
    assert blobs.exists()
    life.set_clock(KEPT_S + 1)
    life.running.unused.soon()
    life.run(10)
    assert not blobs.exists()
    serve(life, "b", "one")
    life.run(10)
    assert life.world.layers.pulled[3:] == [BASE], "the layers are there"
    rest(life)


def test_images_are_listed_by_a_look_into_each_folder(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images and layers there are."""
    for number, name in enumerate("abc"):
        serve(life, name, f"touch /{number}")
        life.run(60)
    looked: list[Path] = []

    def listed(folder: Path, real: Callable[[Path], list[Path]] = layers_on_disk.listed) -> list[Path]:
        looked.append(folder)
        return real(folder)

    for module in (layers_on_disk, roots):
        monkeypatch.setattr(module, "listed", listed)
    found = life.running.unused.images.roots
    assert len(list(found.records())) == 3
    assert list(found.images().values()) == [True] * 3
    assert len(looked) == 6, "the images, the layers and their records, for each of the two questions"


def test_a_registry_that_does_not_answer_is_asked_again_some_minutes_later(life: Life) -> None:
    """Not at each deploy, which would wait for its retries; it is said, and a Debian is made meanwhile."""
    for name in ("a", "b"):
        serve(life, name, "one")
        life.run(60)
        assert life.running.store.app(name).serving == 1
    assert life.world.layers.pulled == [BASE]
    life.run(600)
    life.world.layers.registry = True
    serve(life, "c", "one")
    life.run(60)
    assert life.world.layers.pulled[1:2] == [BASE]
    assert ("A", "1") in life.running.store.app("c").revisions[0].image.env
    rest(life)


def test_what_cannot_run_is_refused_before_anything_is_made(life: Life) -> None:
    """A program that becomes another user."""
    layers = [{"aptPackages": {"packages": ["jq"]}}]
    asked = life.serve("a", image={"spec": {"baseImage": BASE, "layers": layers}}, command=("gosu", "x"), port=8080)
    life.run(1)
    assert "needs root" in asked.end
    assert life.world.layers.pulled == []
    rest(life)


def with_secret(required: str) -> dict[str, Any]:
    """An image of a Dockerfile one step of which reads a secret."""
    text = f"FROM base:1\nRUN --mount=type=secret,id=TOKEN,env=TOKEN{required} make /x\n"
    return {"spec": {"dockerfile": {"name": "Dockerfile", "text": text}}}


def test_a_step_of_a_dockerfile_does_without_a_secret_unless_it_is_required(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As elsewhere; with the secret it is another layer. A secret that is missing is named with its line."""
    life.world.layers.registry = True
    store: set[str] = set()

    def resolve(key: str, *_scope: str) -> None:
        if key not in store:
            raise SecretNotFound(f"{key} is not in the store", hint=f"flytectl secret create {key}")

    monkeypatch.setattr(life.running.images, "resolve", resolve)
    for app in "ab":
        asked = life.serve(app, image=with_secret(""), command=("x",), port=8080)
        life.run(60)
        assert asked.end == "done", asked.end
        store.add("TOKEN")
    secrets = [json.loads(text)["step"]["secrets"] for text in life.world.layers.made if "make /x" in text]
    assert secrets == [[], [{"credential": "b0", "env": "TOKEN"}]]
    store.clear()
    asked = life.serve("c", image=with_secret(",required"), command=("x",), port=8080)
    life.run(5)
    assert asked.end == "SecretNotFound: Dockerfile:2: RUN: TOKEN is not in the store"
    rest(life)


def test_a_script_that_needs_root_is_refused_once_it_is_there(life: Life) -> None:
    """With what to write in its place; the image stays, and the next command runs in it."""
    life.world.layers.files["entry"] = '#!/bin/sh\nchown -R app /data\nexec gosu app "$@"\n'
    image = {"spec": {"baseImage": BASE, "layers": [{"aptPackages": {"packages": ["jq"]}}]}}
    asked = life.serve("a", image=image, command=("/entry", "run", "-x"), port=8080)
    life.run(60)
    assert "starts '/entry', a script that runs gosu, which needs root" in asked.end
    made = len(life.world.layers.made)
    asked = life.serve("a", image=image, command=("run", "-x"), port=8080)
    life.run(60)
    assert (asked.end, len(life.world.layers.made)) == ("done", made)
    rest(life)


def test_a_home_that_is_a_link_is_told(life: Life) -> None:
    """Its apps find an empty folder there; of a link that leads nowhere nothing is lost."""
    life.world.layers.links |= {"root": "opt/venv", "home": "/nowhere"}
    asked = serve(life, "a", "touch /x")
    life.run(60)
    assert asked.end == "done"
    assert [text for text in asked.says if " is a link" in text] == [
        "/root of its image is a link: the app finds an empty folder there, and its files in '/opt/venv'"
    ]
    rest(life)
