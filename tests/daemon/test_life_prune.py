"""``image prune`` on the machine of ``life.py``: what it removes at once, what it never does, what it waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyted.daemon.images import unused
from flyted.plan.facts import UnitEnd
from flyted.plan.images.layer_unit import LAYERS
from flyted.plan.images.unused import KEPT_S
from tests.daemon.life import BASE, Life, up
from tests.daemon.rest import rest
from tests.daemon.test_life_images import images, unused_environment
from tests.daemon.test_life_roots import folders, recorded, serve
from tests.daemon.world_layers import TAKES


def of(life: Life, app: str, number: int = -1) -> str:
    """The image of an app's revision."""
    return life.running.store.app(app).revisions[number].image.hash


def unused_image(life: Life) -> None:
    """An image of layers, whose only app is deleted again."""
    serve(life, "a", "one")
    life.run(60)
    life.call("delete", "a", keep_data=False)
    life.run(5)


def test_what_no_app_uses_goes_at_once_and_is_named(life: Life) -> None:
    """Images of both kinds, layers and downloads; what an app uses, also a stopped one, stays."""
    life.world.layers.registry = True
    for app, command in (("a", "one"), ("b", "two")):
        serve(life, app, command)
        life.run(60)
    for app, package in (("c", "httpx"), ("d", "flask")):
        life.serve(app, build=package)
        life.run(10)
    layers, gone = recorded(life), {of(life, "b"), of(life, "d")}
    kept = {of(life, "a"), of(life, "c")}
    life.call("stop", "a")
    for app in "bd":
        life.call("delete", app, keep_data=False)
    life.run(5)
    would = life.ask("image.unused")
    life.run(1)
    assert recorded(life) == layers, "only said"
    asked = life.ask("image.prune")
    life.run(5)
    assert asked.end == "done"
    assert {each.hash for each in asked.answer.images} == {each.hash for each in would.answer.images} == gone
    assert (asked.answer.layers, asked.answer.downloads) == (1, would.answer.downloads)
    assert 0 < asked.answer.downloads <= asked.answer.bytes - TAKES
    assert len(layers - recorded(life)) == 1
    assert folders(life) == recorded(life)
    assert images(life) | {path.stem for path in Path(life.world.folder, "roots").glob("*.json")} == kept
    assert not (life.world.folder / "blobs").exists()
    again = life.ask("image.prune")
    life.run(5)
    assert (again.answer.images, again.answer.layers, again.answer.bytes) == ((), 0, 0)
    life.call("start", "a")
    life.run(5)
    rest(life)


def test_it_waits_for_builds_and_keeps_what_they_made(life: Life) -> None:
    """Who waits is told so. What was built ahead of a deploy is unused, and goes."""
    asked = serve(life, "a", "one")
    life.run(5)
    pruned = life.ask("image.prune")
    dry = life.ask("image.unused")
    life.run(2)
    assert pruned.says == dry.says == ["images are being built; nothing is deleted before they are ready"]
    assert (pruned.end, dry.end) == ("", "done")
    life.run(60)
    assert (asked.end, pruned.end, pruned.answer.images) == ("done", "done", ())
    layers = [{"aptPackages": {"packages": ["jq"]}}, {"commands": {"cmd": ["two"]}}]
    spec = {"baseImage": BASE, "layers": layers}
    built = life.ask("image.build", project="p", domain="d", image={"spec": spec}, bundles=[])
    life.run(60)
    pruned = life.ask("image.prune")
    life.run(5)
    assert built.end == "done", built.end
    assert [each.hash for each in pruned.answer.images] == [built.answer.hash]
    rest(life)


def test_who_leaves_before_it_begins_calls_it_off(life: Life) -> None:
    """Then only what is old goes."""
    unused_environment(life)
    life.serve("b", build="flask")
    life.run(1)
    asked = life.ask("image.prune")
    life.run(1)
    life.leave(asked)
    life.run(60)
    assert (asked.end, len(images(life))) == ("left", 2)
    rest(life)


def test_a_revision_that_finishes_its_requests_keeps_its_image(life: Life) -> None:
    """The next one serves already; when its units are gone, so may its image."""
    serve(life, "a", "one")
    life.run(60)
    life.request("a", takes_s=100)
    life.run(5)
    serve(life, "a", "two")
    life.run(30)
    first, second = of(life, "a", 0), of(life, "a", 1)
    assert life.running.store.app("a").serving == 2
    asked = life.ask("image.prune")
    life.run(5)
    assert (asked.end, asked.answer.images) == ("done", ())
    life.run(100)
    asked = life.ask("image.prune")
    life.run(5)
    assert [each.hash for each in asked.answer.images] == [first]
    assert first != second
    rest(life)


def test_a_revision_that_ends_and_is_forgotten_keeps_all_images(life: Life) -> None:
    """Nobody knows then which one is its."""
    life.serve("a", build="httpx")
    life.run(7)
    life.serve("b", build="flask")
    life.run(7)
    life.request("a", takes_s=100)
    life.call("delete", "b", keep_data=False)
    life.run(5)
    for _ in range(11):
        up(life, "a", build="")
    asked = life.ask("image.prune")
    life.run(5)
    assert (asked.end, asked.answer.images, len(images(life))) == ("done", (), 2)
    life.run(100)
    asked = life.ask("image.prune")
    life.run(5)
    assert (len(asked.answer.images), images(life)) == (2, set())
    rest(life)


def test_what_is_mounted_stays(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has mounted it."""
    unused_image(life)
    top = max(recorded(life))
    text = f"36 35 98:0 / /mnt rw - overlay overlay rw,lowerdir+={LAYERS}/{top}/diff,upperdir=/x\n"
    monkeypatch.setattr(unused, "mounts", lambda: text)
    asked = life.ask("image.prune")
    life.run(5)
    assert (asked.end, recorded(life), folders(life)) == ("done", {top}, {top})
    rest(life)


def test_a_machine_that_cannot_be_asked_says_so_at_once(life: Life) -> None:
    """Nothing is removed later behind somebody's back."""
    unused_image(life)
    before = recorded(life)
    life.world.connect(bus=False)
    asked, dry = life.ask("image.prune"), life.ask("image.unused")
    life.run(0.1)
    assert asked.end == dry.end == "HostFailure: systemd does not answer"
    life.world.connect(bus=True)
    life.run(10)
    assert recorded(life) == before
    life.set_clock(KEPT_S - 100)
    rest(life)


def test_what_could_not_be_removed_is_an_error(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as half made, and goes with the next look."""
    unused_image(life)

    async def refused(*_words: Any, **_options: Any) -> UnitEnd:
        return UnitEnd("exit-code", 1)

    with monkeypatch.context() as patch:
        patch.setattr(life.running.systemd, "run_transient", refused)
        asked = life.ask("image.prune")
        life.run(5)
    assert asked.end == "HostFailure: not all unused images could be removed"
    assert (recorded(life), len(folders(life)) > 0) == (set(), True)
    life.running.unused.soon()
    life.run(5)
    assert folders(life) == set()
    rest(life)
