"""Every field of the SDK has its place in flytectl(1), "FIELDS": a new one fails here instead of being ignored."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

flyte = pytest.importorskip("flyte")
app = pytest.importorskip("flyte.app")
images = pytest.importorskip("flyte._image")

MAN = Path(__file__).parents[2] / "packaging/man/flytectl.1"
CLASSES = (
    app.AppEnvironment, app.Scaling, app.Port, app.Domain, app.Link, app.Timeouts, app.Parameter,
    flyte.Resources, flyte.Secret, flyte.Image,
)  # fmt: skip
KINDS = {"Honoured", "Reported, without effect", "Refused by name", "Without effect here"}


def listed() -> dict[str, str]:
    """``Class.field`` → which list of the man page it is in; twice is a mistake."""
    section = re.search(r"^\.Sh FIELDS\n(.*?)^\.Sh ", MAN.read_text(), re.DOTALL | re.MULTILINE)
    assert section is not None
    found: dict[str, str] = {}
    for part in section[1].split("\n.It ")[1:]:
        kind, _, text = part.partition("\n")
        for name in re.findall(r"^\.Fa (\S+)", text, re.MULTILINE):
            assert name not in found, f"{name} is listed twice"
            found[name] = kind
    return found


def fields(kind: Any) -> set[str]:
    return {f"{kind.__name__}.{f.name}" for f in dataclasses.fields(kind) if not f.name.startswith("_")}


def known() -> set[str]:
    """The fields of an app and of its parts, the kinds of layers of an image, and what a serve can be told."""
    from flyte.app.extras import FastAPIAppEnvironment

    found = set().union(*(fields(kind) for kind in CLASSES))
    own = {f.name for f in dataclasses.fields(FastAPIAppEnvironment)} - {
        f.name for f in dataclasses.fields(app.AppEnvironment)
    }
    found |= {f"FastAPIAppEnvironment.{name}" for name in own if not name.startswith("_")}
    layers = [kind for _, kind in inspect.getmembers(images, inspect.isclass) if issubclass(kind, images.Layer)]
    found |= {f"Image.{kind.__name__}" for kind in layers if kind is not images.Layer}
    return found | {f"with_servecontext.{name}" for name in inspect.signature(flyte.with_servecontext).parameters}


def test_every_field_has_its_place() -> None:
    """And the man page names none that the SDK does not have."""
    assert set(listed()) == known()
    assert set(listed().values()) == KINDS
