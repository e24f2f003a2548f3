"""Flyte's ImageSpec, as the tests of images begin with it."""

from __future__ import annotations

from typing import Any

from flyted.plan.images.recipe import Install, Machine
from flyted.plan.images.spec import recipe_from_spec

BASE = "ghcr.io/flyteorg/flyte:py3.12-v2.12.1"
HERE = Machine("x86_64", "glibc 2.41", "3.13")


def spec(*layers: dict[str, Any], base: str = BASE, **more: Any) -> dict[str, Any]:
    return {"baseImage": base, "pythonVersion": "3.12", "layers": list(layers), **more}


def packages(*names: str, **options: Any) -> dict[str, Any]:
    return {"pipPackages": {"packages": list(names), "options": options}}


def installed(layer: dict[str, Any], **files: str) -> Install:
    return recipe_from_spec(spec(layer), files).installs[1]
