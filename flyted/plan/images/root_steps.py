"""Decides which layers of a root image are still to be made, and how each is named and made. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flyted.contract.app import SecretUse
from flyted.contract.names import printable
from flyted.plan.images.canonical import canonical
from flyted.plan.images.layer_unit import LayerSettings, layer_unit
from flyted.plan.images.pull_unit import login_use
from flyted.plan.images.root import BuildSecret, LayerJob, RootPlan, RootRecipe, Run, Stage, Step

_UV = re.compile(r"(?:^|[\s;&|(])uv\s")


@dataclass(frozen=True)
class Granted:
    """A job as its unit gets it. ``uses``: its secrets, by the id of the credential that carries each."""

    job: LayerJob
    text: str
    uses: Mapping[str, SecretUse] = field(default_factory=dict)

    def unit(self, settings: LayerSettings, output_fd: int) -> dict[str, Any]:
        """Return the properties of its unit, which prints to ``output_fd``."""
        step = self.job.job["step"]
        folders = [each.get("folder", "") for each in (step, *step.get("mounts", ()))]
        blob = step.get("blob", "").removeprefix("sha256:")
        return layer_unit(
            self.job.id,
            self.text.encode(),
            dataclasses.replace(settings, output_fd=output_fd),
            network=step["kind"] in ("run", "debian"),
            bundles=dict.fromkeys(folder for folder in folders if folder),
            blobs=[blob] if blob else [],
            secrets=self.uses,
        )


def granted(job: LayerJob, machine: Sequence[SecretUse]) -> Granted:
    """Return a job with its secrets. ``machine``: those of images.secrets, which each command that runs uv gets."""
    uses = {name: secret.use() for name, secret in job.secrets}
    own = {use.env for use in uses.values()}
    more = [use for use in machine if use.env not in own] if _runs_uv(job) else []
    if not more:
        return Granted(job, job.text, uses)
    added = {f"b{number}": use for number, use in enumerate(more, len(uses))}
    secrets = [*job.job["step"]["secrets"], *({"credential": name, "env": use.env} for name, use in added.items())]
    step = {**job.job["step"], "secrets": secrets}
    return Granted(job, canonical({**job.job, "step": step}), {**uses, **added})


def secrets_of(recipe: RootRecipe) -> list[SecretUse]:
    """Return the secrets that an image is made with. Raises :class:`InvalidInput` for a wrong name."""
    login = [login_use(recipe.login)] if recipe.login else []
    return [*(secret.use() for _where, secret in step_secrets(recipe)), *login]


def step_secrets(recipe: RootRecipe) -> Iterator[tuple[str, BuildSecret]]:
    """Yield the secrets of a recipe's steps, each with the place of its step, for people."""
    for stage in recipe.stages:
        for step in stage.steps:
            if isinstance(step, Run):
                yield from ((step.where, secret) for secret in step.secrets)


def without(recipe: RootRecipe, keys: Collection[str]) -> RootRecipe:
    """Return a recipe whose steps do without the optional secrets of these names."""

    def changed(stage: Stage) -> Stage:
        return dataclasses.replace(stage, steps=tuple(map(made, stage.steps)))

    def made(step: Step) -> Step:
        if not isinstance(step, Run):
            return step
        kept = tuple(each for each in step.secrets if not (each.optional and each.key in keys))
        return dataclasses.replace(step, secrets=kept)

    return dataclasses.replace(recipe, stages=tuple(map(changed, recipe.stages))) if keys else recipe


def missing(plan: RootPlan, have: Collection[str]) -> list[tuple[int, LayerJob]]:
    """Return the jobs to be done, in order, each with its number among all. ``have``: the layers that are there.

    A layer that is only copied from is not made for layers that are there.
    """
    wanted, found = set(plan.layers), []
    for number, job in reversed(list(enumerate(plan.jobs, 1))):
        if job.id in wanted and job.id not in have:
            found.append((number, job))
            step = job.job["step"]
            wanted.update(job.parents, *(each.get("from", ()) for each in (step, *step.get("mounts", ()))))
    return found[::-1]


def describe(job: LayerJob) -> str:
    """Describe a job, for people, in one line."""
    step = job.job["step"]
    match step["kind"]:
        case "run":
            text = " ".join(step["show"].split())
            return text if len(text) <= 100 and text.isprintable() else printable(text[:100])
        case "debian":
            return f"install Debian {step['suite']}"
        case "oci":
            return f"unpack {step['blob'][:19]}"
        case "copy":
            return f"copy {printable(step['source'])} to {printable(step['target'])}"
    return f"make {printable(step['target'])}"


def _runs_uv(job: LayerJob) -> bool:
    step = job.job["step"]
    return step["kind"] == "run" and _UV.search(step["argv"][-1]) is not None
