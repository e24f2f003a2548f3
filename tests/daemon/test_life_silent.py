"""A registry that does not answer, on the machine of ``life.py``: names stay what they were last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyted.plan.images.pull_unit import PullSettings
from tests.daemon.life import Asked, Life
from tests.daemon.rest import rest
from tests.daemon.test_life_prune import of
from tests.daemon.test_life_pull import NGINX, pull
from tests.daemon.test_life_roots import serve as serve_layers
from tests.daemon.world_layers import MANIFEST

TAKEN = f"docker.io does not answer: {NGINX} is used as it was on "


def serve(life: Life, name: str, **changes: Any) -> Asked:
    """Serve an app in that image."""
    asked = life.serve(name, image={"spec": {"baseImage": NGINX}}, command=("nginx",), port=8080, **changes)
    life.run(60)
    return asked


def noted(asked: Asked) -> list[str]:
    """What was said of a name that could not be asked for."""
    return [text for text in asked.says if TAKEN in text]


def test_an_image_that_was_pulled_can_be_served_without_its_registry(life: Life) -> None:
    """That is what people pull for. The second deploy does not wait for the registry again."""
    life.world.layers.registry = True
    pull(life)
    life.run(60)
    life.world.layers.registry = False
    asked_before = len(life.world.layers.pulled)
    first, second = serve(life, "a"), serve(life, "b")
    assert (first.end, second.end) == ("done", "done")
    assert len(noted(first)) == len(noted(second)) == 1
    assert noted(first)[0].endswith(MANIFEST[:19])
    assert len(life.world.layers.pulled) == asked_before + 1, "a silent registry is asked once in ten minutes"
    rest(life)


def test_a_registry_that_answers_is_believed(life: Life) -> None:
    """A tag moves. What it was is no longer used, also not when the registry is away again."""
    life.world.layers.registry = True
    pull(life)
    life.run(60)
    moved = f"sha256:{'7' * 64}"
    life.world.layers.manifest, life.world.layers.blob = moved, f"sha256:{'9' * 64}"
    assert serve(life, "a").end == "done"
    life.world.layers.registry = False
    asked = serve(life, "b")
    root = life.running.store.app("b").revisions[0].image.root
    assert (asked.end, root and root.digests) == ("done", ((NGINX, moved),))
    rest(life)


def test_who_pulls_by_hand_has_a_silent_registry_asked(life: Life) -> None:
    """It may be back before the ten minutes are over, and the tag have moved; later deploys ask it again too."""
    life.world.layers.registry = True
    pull(life)
    life.run(60)
    life.world.layers.registry = False
    assert len(noted(serve(life, "a"))) == 1
    life.world.layers.registry = True
    life.world.layers.manifest = f"sha256:{'7' * 64}"
    asked = pull(life)
    life.run(60)
    assert (noted(asked), asked.answer.digest) == ([], life.world.layers.manifest)
    assert noted(serve(life, "b")) == []
    rest(life)


def test_an_image_that_needed_a_login_is_nobody_elses(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cannot show the login to a registry that is away gets nothing of what it gave to others."""
    life.world.layers.registry = True
    monkeypatch.setattr(life.running.images, "resolve", lambda *_: None)  # there is such a secret
    pulled = life.ask("image.pull", project="default", domain="development", name=NGINX, registry_secret="HUB")
    life.run(60)
    assert pulled.end == "done", pulled.end
    life.world.layers.registry = False
    asked = serve(life, "a")
    assert asked.end.startswith(f"BuildFailed: docker.io/library/{NGINX}: registry does not answer"), asked.end
    assert asked.end.endswith("it was pulled before with another login or with none")
    again = life.ask("image.pull", project="default", domain="development", name=NGINX, registry_secret="HUB")
    life.run(60)
    assert (again.end, len(noted(again))) == ("done", 1)
    rest(life)


def test_what_a_name_was_is_kept_as_long_as_an_image_of_it(life: Life) -> None:
    """Also if all that was pulled for it is deleted; and a file that is damaged counts as none."""
    life.world.layers.registry = True
    pull(life)
    life.run(60)
    assert serve(life, "a").end == "done"
    life.ask("image.prune")
    life.run(60)
    life.world.layers.registry = False
    assert serve(life, "b").end == "done"
    (known,) = Path(life.world.folder, "roots/known").iterdir()
    known.write_text("{")
    assert serve(life, "c").end.startswith("BuildFailed: "), "nothing is known of it"
    for name in ("a", "b"):
        life.call("delete", name, keep_data=False)
    life.run(60)
    life.ask("image.prune")
    life.run(60)
    assert list(Path(life.world.folder, "roots/known").iterdir()) == []
    rest(life)


def test_a_deploy_does_not_replace_a_base_that_was_pulled_by_a_debian(life: Life) -> None:
    """Flyte's own base is made by apt only where its registry never answered."""
    life.world.layers.registry = True
    serve_layers(life, "a", "one")
    life.run(60)
    life.world.layers.registry = False
    image = of(life, "a")
    serve_layers(life, "b", "one")
    life.run(60)
    assert of(life, "b") == image
    rest(life)


@pytest.mark.parametrize("mirror", [True, False])
def test_flytes_base_is_made_by_apt_where_a_mirror_does_not_have_it(
    life: Life, monkeypatch: pytest.MonkeyPatch, *, mirror: bool
) -> None:
    """What a mirror lacks, the registry may have; where the registry itself says no, the name is wrong."""
    if mirror:
        settings = PullSettings(mirrors={"ghcr.io": "https://mirror.example.org"})
        monkeypatch.setattr(life.running.images.roots.pulls, "_settings", settings)
    life.world.layers.registry = life.world.layers.lacks = True
    asked = serve_layers(life, "a", "one")
    life.run(60)
    if not mirror:
        assert asked.end.startswith("BuildFailed: ghcr.io/flyteorg/flyte:"), asked.end
        return
    assert asked.end == "done", asked.end
    assert any("a Debian is installed in its place" in text for text in asked.says)
    life.world.layers.lacks = False
    pulled = serve_layers(life, "b", "one")
    life.run(60)
    assert (pulled.end, of(life, "b") == of(life, "a")) == ("done", False), "the mirror is asked again at once"
    life.world.layers.lacks = True
    again = serve_layers(life, "c", "one")
    life.run(60)
    assert (again.end, of(life, "c")) == ("done", of(life, "b"))
    assert any("ghcr.io does not have it any more: " in text for text in again.says)
    rest(life)
