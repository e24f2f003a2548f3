"""The verbs about images: which there are, what is in them, and who uses them."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.answers.events import Event
from flyted.contract.answers.images import LayerStatus
from flyted.contract.errors import InvalidInput, NotFound
from flyted.daemon.api.actor import Actor
from flyted.daemon.api.verbs import Call, Right
from flyted.daemon.images.images import Images
from flyted.daemon.images.listing import ImageVerbs
from flyted.plan.facts import StoredApp
from flyted.plan.images.build_unit import BuildSettings
from tests.daemon.life import Life
from tests.values import app

OLD, NEW, HALF = "ab" + "0" * 30, "ac" + "0" * 30, "c" * 32


@pytest.fixture
def verbs(tmp_path: Path) -> ImageVerbs:
    """Two finished images, the older one without what newer builders record, and a half one."""
    record: dict[str, Any] = {
        "format": 1, "python_asked": "3.12", "python": "3.13.5", "note": "", "packages": 2, "built": [], "stamp": "s",
    }  # fmt: skip
    recipe = {"installs": [{"source": "layer 1 (pip_packages)", "requirements": ["httpx"]}]}
    for name, more in {
        OLD: {"built_at": 1.0, "recipe": recipe},
        NEW: {"built_at": 2.0, "recipe": recipe, "seconds": [0.5], "bytes": 7},
        HALF: None,
    }.items():
        (tmp_path / name).mkdir()
        if more is not None:
            (tmp_path / name / "image.json").write_text(json.dumps({**record, "hash": name, **more}))
    nothing: Any = None
    images = Images(nothing, tmp_path, BuildSettings(), nothing, nothing, nothing, nothing)
    return ImageVerbs(images, lambda: [running("b", OLD), running("a", OLD)])


def running(name: str, image: str) -> StoredApp:
    """An app that runs in an image."""
    made = app(name)
    (revision,) = made.revisions
    return replace(made, revisions=(replace(revision, image=replace(revision.image, hash=image)),))


def ask(verbs: ImageVerbs, verb: str, **args: Any) -> Any:
    """One verb, its arguments checked as on the socket."""

    async def nobody(_event: Event) -> None:
        raise AssertionError("no events")

    row = verbs.verbs()[verb]
    return asyncio.run(row.handler(Call(Actor(os.getuid(), 1), row.check(args), b"", None, nobody)))  # type: ignore[arg-type]


def test_who_may_what_with_images(life: Life) -> None:
    """To look at them, reading is enough; what changes something is written down. No verb is for root alone."""
    rows = life.running.image_verbs()
    reading = {"image.list", "image.get", "image.unused"}
    assert {name for name, row in rows.items() if row.right is Right.READ} == reading
    assert {name for name, row in rows.items() if row.changes} == rows.keys() - reading
    assert {row.right for row in rows.values()} == {Right.READ, Right.OPERATE}


def test_finished_images_are_listed_the_newest_first(verbs: ImageVerbs) -> None:
    """With their users; what an older builder did not record counts as not known."""
    newest, oldest = ask(verbs, "image.list").images
    assert (newest.hash, newest.bytes, newest.used_by) == (NEW, 7, ())
    assert newest.layers == (LayerStatus("layer 1 (pip_packages)", ("httpx",), 0.5),)
    assert (oldest.hash, oldest.bytes, oldest.used_by) == (OLD, 0, ("a", "b"))
    assert oldest.layers[0].seconds == 0


def test_an_image_is_found_by_its_first_digits(verbs: ImageVerbs) -> None:
    """As long as no other one begins with them; a half one is not there."""
    assert ask(verbs, "image.get", hash="ac").hash == ask(verbs, "image.get", hash=NEW).hash == NEW
    with pytest.raises(InvalidInput, match="2 images begin with a"):
        ask(verbs, "image.get", hash="a")
    with pytest.raises(NotFound):
        ask(verbs, "image.get", hash="c")


@pytest.mark.parametrize("text", ["", "..", "../..", "AB", "x", "a" * 33, "a\n"])
def test_what_is_no_hash_is_refused(verbs: ImageVerbs, text: str) -> None:
    """It never becomes a path."""
    with pytest.raises(InvalidInput, match="is not the hash of an image"):
        ask(verbs, "image.get", hash=text)
