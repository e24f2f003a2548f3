"""Decides which layers a root image is made of: one job for each step, and the config that they lead to. Pure.

Variables, working directory and user are those that a Dockerfile would have at each step. Sources: the reference of
Dockerfile; buildkit's frontend/dockerfile/dockerfile2llb/convert.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable
from flyted.layers.words import FORMAT
from flyted.plan.images.renewed import Ids
from flyted.plan.images.root import (
    DebianBase,
    ImageConfig,
    LayerJob,
    OciBase,
    RootPlan,
    RootRecipe,
    Stage,
    StageBase,
    layer_id,
)
from flyted.plan.images.steps import Made, Origins, State, apply

MAX_STACK = 100
"""Layers of one image: a step names all those below it in one page of options of mount(2) (layers/overlay.py)."""


@dataclass(frozen=True)
class Pulled:
    """A container image that has been pulled. ``layers``: digest and media type of each, lowest first."""

    layers: tuple[tuple[str, str], ...]
    config: ImageConfig


def references(recipe: RootRecipe) -> tuple[str, ...]:
    """Return the container images to pull, each once, as they are written."""
    bases = [recipe.stages[number].base for number in needed(recipe)]
    return tuple(dict.fromkeys(base.reference for base in bases if isinstance(base, OciBase)))


def needed(recipe: RootRecipe) -> list[int]:
    """Return the numbers of the stages that the image is made of or copies from, in order; others are not built."""
    found: set[int] = set()
    left = [len(recipe.stages) - 1]
    while left:
        number = left.pop()
        if number not in found:
            found.add(number)
            left += _used(recipe.stages[number])
    return sorted(found)


def plan_of(
    recipe: RootRecipe,
    arch: str,
    pulled: Mapping[str, Pulled],
    renewed: Mapping[str, str] = MappingProxyType({}),
    stamp: str = "",
) -> RootPlan:
    """Return the layers of an image, in the order in which they are made, and its config.

    ``arch``: as of uname -m. ``pulled``: the container images of :func:`references`; for one that is missing the
    recipe's ``otherwise`` is built. ``renewed``, ``stamp``: see :class:`~flyted.plan.images.renewed.Ids`. Raises
    :class:`InvalidInput` or :class:`Unsupported` for a step that cannot be made with what the base images define. A
    ``KeyError`` is a fault of ours: an image is missing that has no other.
    """
    planner = _Planner(recipe, arch, pulled, Ids(renewed, stamp))
    for number in needed(recipe):
        planner.done[number] = planner.stage(recipe.stages[number])
    state = planner.done[len(recipe.stages) - 1]
    jobs = tuple({job.id: job for job in planner.jobs}.values())
    notes = (*recipe.notes, *planner.notes)
    renewals = tuple(planner.ids.new.items()), tuple(sorted(planner.ids.keys))
    return RootPlan(jobs, tuple(state.layers), state.config(), notes, *renewals)


def _used(stage: Stage) -> Iterator[int]:
    """Yield the numbers of the stages that a stage is based on, copies from or mounts."""
    if isinstance(stage.base, StageBase):
        yield stage.base.stage
    for step in stage.steps:
        for each in (step, *getattr(step, "mounts", ())):
            number = getattr(each, "stage", None)
            if number is not None:
                yield number


class _Planner:
    def __init__(self, recipe: RootRecipe, arch: str, pulled: Mapping[str, Pulled], ids: Ids) -> None:
        self.recipe, self.arch, self.pulled, self.ids = recipe, arch, pulled, ids
        self.arguments, self.folders = dict(recipe.arguments), dict(recipe.folders)
        self.jobs: list[LayerJob] = []
        self.notes: list[str] = []
        self.done: dict[int, State] = {}

    def stage(self, stage: Stage) -> State:
        state = self._base(stage.base)
        origins = Origins(self.folders, {number: each.layers for number, each in self.done.items()})
        for step in stage.steps:
            for made in apply(step, state, origins):
                self._add(state, made, step.where)
                if len(state.layers) > MAX_STACK:  # at each layer: one COPY may name 100,000 files
                    raise InvalidInput(
                        f"{step.where}: the image has more than {MAX_STACK} layers",
                        hint="copy whole folders; join commands with && in one RUN or one string of with_commands()",
                    )
        return state

    def _base(self, base: object) -> State:
        match base:
            case StageBase(number):
                return State(self.arguments, self.done[number].config(), self.done[number])
            case OciBase(reference, Stage() as otherwise) if reference not in self.pulled:
                self.notes.append(f"{reference} was not pulled: a Debian is installed in its place")
                return self.stage(otherwise)
            case OciBase(reference):
                image = self.pulled[reference]
                if len(image.layers) > MAX_STACK:
                    raise InvalidInput(
                        f"{printable(reference)} has {len(image.layers)} layers, more than {MAX_STACK}",
                        hint="use another tag of it, or one that its makers have squashed",
                    )
                state = State(self.arguments, image.config)
                for digest, media in image.layers:
                    self._add(
                        state, Made({"kind": "oci", "blob": digest, "media": media}), printable(reference).strip("'")
                    )
                return state
            case DebianBase(suite, packages):
                state = State(self.arguments, ImageConfig())
                self._add(
                    state, Made({"kind": "debian", "suite": suite, "packages": list(packages)}), "the base image"
                )
                return state
        return State(self.arguments, ImageConfig())

    def _add(self, state: State, made: Made, where: str) -> None:
        """Add one layer to a stage. Its id has the secrets' names in it, and whose they are, but no value."""
        content = {key: value for key, value in made.step.items() if key != "show"}
        if made.secrets:
            secrets = [[secret.key, secret.env, secret.file] for secret in made.secrets]
            content |= {"secrets": secrets, "scope": self.recipe.scope}
        key = layer_id(self.arch, state.layers[-1] if state.layers else "", [content, made.surroundings])
        name = self.ids.of(key, made.step, state.layers)
        surroundings = made.surroundings or {"env": {}, "cwd": "/", "user": "root"}
        job = {"format": FORMAT, "layer": name, "parents": list(state.layers), **surroundings, "step": made.step}
        granted = tuple((f"b{number}", secret) for number, secret in enumerate(made.secrets))
        self.jobs.append(LayerJob(name, tuple(state.layers), job, granted, where))
        state.layers.append(name)
