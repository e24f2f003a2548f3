"""``image pull`` on the machine of ``life.py``: what it leaves, and how long that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyted.contract.errors import InvalidInput
from flyted.plan.images.unused import KEPT_S
from tests.daemon.life import Asked, Life
from tests.daemon.rest import rest
from tests.daemon.test_life_roots import folders, recorded, serve
from tests.daemon.world_layers import MANIFEST, TAKES

NGINX = "nginx:1.27"


def pull(life: Life, name: str = NGINX) -> Asked:
    """Pull an image, without a login."""
    return life.ask("image.pull", project="default", domain="development", name=name, registry_secret="")


def test_a_pulled_image_is_the_one_that_an_app_gets(life: Life) -> None:
    """The deploy asks which image it is, and makes nothing; what is based on it begins with its layers."""
    life.world.layers.registry = True
    asked = pull(life)
    life.run(60)
    assert asked.end == "done", asked.end
    found = asked.answer
    assert (found.name, found.digest) == ("docker.io/library/nginx:1.27", MANIFEST)
    assert (found.layers, found.bytes) == (1, TAKES)
    assert not any(text.startswith("building") for text in asked.says), asked.says
    listed = life.ask("image.list")
    life.run(1)
    assert [(each.hash, each.used_by) for each in listed.answer.images] == [(found.hash, ())]
    made, asked_for = len(life.world.layers.made), len(life.world.layers.pulled)
    served = life.serve("a", image={"spec": {"baseImage": NGINX}}, command=("nginx",), port=8080)
    life.run(60)
    assert served.end == "done", served.end
    image = life.running.store.app("a").revisions[0].image
    assert (image.hash, len(life.world.layers.made)) == (found.hash, made)
    assert life.world.layers.pulled[asked_for:] == ["docker.io/library/nginx:1.27"]
    rest(life)


def test_the_digest_is_told_by_the_name_that_was_asked_for(life: Life) -> None:
    """Two names of one image are one image here."""
    life.world.layers.registry = True
    first, second = pull(life), None
    life.run(60)
    second = pull(life, "quay.io/other/name:1")
    life.run(60)
    assert (second.answer.hash, second.answer.digest) == (first.answer.hash, MANIFEST)
    served = life.serve("a", image={"spec": {"baseImage": NGINX}}, command=("nginx",), port=8080)
    life.run(60)
    root = life.running.store.app("a").revisions[0].image.root
    assert (served.end, root and root.digests) == ("done", ((NGINX, MANIFEST),))
    rest(life)


def test_it_is_kept_for_a_week_from_the_last_pull(life: Life) -> None:
    """A removal that was due a moment later does not take it; after a week it goes."""
    life.world.layers.registry = True
    first = pull(life)
    life.run(60)
    life.set_clock(KEPT_S - 100)
    life.run(1)
    again = pull(life)
    life.run(60)
    life.set_clock(200)
    for later, there in ((0.0, True), (KEPT_S - 1000, True), (1000.0, False)):
        life.set_clock(later)
        life.running.unused.soon()
        life.run(10)
        assert (bool(recorded(life)), bool(folders(life))) == (there, there), later
    assert (first.answer, again.end) == (again.answer, "done")
    assert list(Path(life.world.folder, "roots").glob("*.json")) == []
    rest(life)


def test_an_image_that_is_built_ahead_is_kept_for_a_week_from_then(life: Life) -> None:
    """Also where an app used to have it until almost a week ago."""
    spec = {"baseImage": "ghcr.io/flyteorg/flyte:py3.12-v2.1.0", "layers": [{"aptPackages": {"packages": ["jq"]}}]}
    serve(life, "a", "one")
    built = []
    for _ in range(2):
        built.append(life.ask("image.build", project="p", domain="d", image={"spec": spec}, bundles=[]))
        life.run(60)
        life.set_clock(KEPT_S - 100)
    life.running.unused.soon()
    life.run(10)
    assert [each.end for each in built] == ["done", "done"]
    assert built[0].answer.hash in {path.stem for path in Path(life.world.folder, "roots").glob("*.json")}
    rest(life)


def test_a_pull_that_fails_leaves_nothing(life: Life) -> None:
    """The registry does not answer; two who ask are told."""
    asked = [pull(life), pull(life)]
    life.run(60)
    for each in asked:
        assert each.end.startswith("BuildFailed: docker.io/library/nginx:1.27: registry does not answer"), each.end
    assert recorded(life) == set()
    rest(life)


@pytest.mark.parametrize(
    "name", ["", "NGINX", "nginx:", "nginx@sha256:12", "../x", "a b", "http://x/y", "-x", "x" * 300]
)
def test_what_names_no_image_is_refused(life: Life, name: str) -> None:
    """Before anybody is asked; it is said how to write one."""
    asked = pull(life, name)
    life.run(1)
    assert asked.end.startswith(f"{InvalidInput.__name__}: the image: "), asked.end
    assert life.world.layers.pulled == []
    rest(life)
