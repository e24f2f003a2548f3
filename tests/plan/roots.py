"""Root recipes, as the tests of images make them."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flyted.layers.job import parse
from flyted.plan.images.dockerfile import recipe_of_dockerfile
from flyted.plan.images.layers import Pulled, plan_of, references
from flyted.plan.images.root import ImageConfig, LayerJob, RootPlan, RootRecipe

WITH_UV = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
"""The SDK asks uv for the editable dependencies of a uv project."""
NOTHING = ImageConfig()
CONTEXT = "c" * 64
ARCH = "x86_64"


def pulled(recipe: RootRecipe, config: ImageConfig = NOTHING) -> dict[str, Pulled]:
    """Every base image of a recipe, of one layer named after it."""
    return {name: Pulled(((blob(name), "tar"),), config) for name in references(recipe)}


def blob(name: str) -> str:
    """The digest of the one layer of a base image."""
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def planned(recipe: RootRecipe, config: ImageConfig = NOTHING) -> RootPlan:
    return taken(plan_of(recipe, ARCH, pulled(recipe, config)))


def taken(plan: RootPlan) -> RootPlan:
    """A plan whose jobs the program of the steps takes, to the last key."""
    for job in plan.jobs:
        assert parse(job.text.encode()).layer == job.id
    return plan


def docker(text: str, config: ImageConfig = NOTHING, folders: Mapping[str, str] | None = None) -> RootPlan:
    """What a Dockerfile leads to; its context is one bundle unless ``folders`` says more."""
    return planned(recipe_of_dockerfile(text, "Dockerfile", {".": CONTEXT, **(folders or {})}, ARCH), config)


def made(plan: RootPlan, kind: str = "") -> list[dict[str, Any]]:
    """The steps of its jobs, or those of one kind; without what base images bring."""
    return [job.job["step"] for job in plan.jobs if job.job["step"]["kind"] not in {"oci", "debian"} and (
        not kind or job.job["step"]["kind"] == kind
    )]  # fmt: skip


def only(plan: RootPlan, kind: str) -> LayerJob:
    (job,) = [job for job in plan.jobs if job.job["step"]["kind"] == kind]
    return job
