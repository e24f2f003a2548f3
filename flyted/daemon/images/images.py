"""Finds an app's image by its hash, or requests its build in a unit of its own, whose output streams to the client.

Which builds begin, and when, is decided in plan/upkeep.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flyted.build.words import RECORD
from flyted.contract.answers.apps import ImageStatus
from flyted.contract.answers.events import NOTE, STEP, Progress
from flyted.contract.app import AppSpec
from flyted.contract.bundles import of_image
from flyted.contract.errors import InvalidInput, StoreCorrupt, Unsupported
from flyted.daemon.api.verbs import Emit
from flyted.daemon.apps.bundles import Bundles
from flyted.daemon.effects import Units
from flyted.daemon.images import given
from flyted.daemon.images.builds import Builds
from flyted.daemon.images.renewed import Rebuild, Renewals
from flyted.daemon.images.roots import Roots, RootSettings
from flyted.daemon.images.step_secrets import resolved
from flyted.daemon.images.venvs import run
from flyted.host import foreign_file
from flyted.host import machine as host
from flyted.plan import volumes
from flyted.plan.actions import BuildImage
from flyted.plan.engines.shape import shape_of
from flyted.plan.facts import ImageFact, Platform, RootFact
from flyted.plan.images import root_check, root_script
from flyted.plan.images.build_unit import (
    BuildSettings,
    ImageRecord,
    build_secrets,
    image_dir,
    is_hash,
    record_of,
    unit_name,
)
from flyted.plan.images.entrypoint import no_program
from flyted.plan.images.recipe import Install, Machine, Recipe, recipe_hash
from flyted.plan.images.renewed import renewed_id
from flyted.plan.images.root import RootRecipe
from flyted.plan.images.root_record import recipe_key
from flyted.plan.images.root_spec import old_python
from flyted.plan.images.root_steps import secrets_of
from flyted.plan.images.spec import engine_of, env_of, gpu_build_of, image_from_spec, pip_installs
from flyted.plan.images.unused import any_removes
from flyted.plan.secrets import BuildGrant

_RECORD_LIMIT = 1 << 20
_UNKNOWN = RootFact((), python="/unknown")
"""A root that is not made yet: what could be wrong with it is looked at when it is."""


@dataclass
class Images:
    """The images of this machine, below ``folder``."""

    units: Units
    folder: Path
    settings: BuildSettings
    resolve: Callable[[str, str, str], object]  # key, project, domain; raises SecretNotFound
    need_gpu: Callable[[str], Awaitable[None]]  # raises NoGpu, in the name of its argument, where there is none
    poke: Callable[[], None]  # asks for a pass of the loop
    bundles: Bundles
    granted: dict[str, BuildGrant] = field(default_factory=dict)  # by the unit of a build that reads secrets
    held: Counter[str] = field(default_factory=Counter)  # hashes of images that are about to be used
    root_settings: RootSettings = field(default_factory=RootSettings)
    platform: Platform = field(default_factory=Platform)
    made: dict[str, frozenset[str]] = field(default_factory=dict)  # of a root image that is held: it and its layers
    removing: set[str] = field(default_factory=set)  # hashes of images that are being deleted

    def __post_init__(self) -> None:
        """Begin with no builds."""
        self.builds = Builds(self.units, self.poke)
        self.renewals = Renewals(self.folder.parent / "renewed-images.json")
        self.roots = Roots(self.units, self.folder.parent, self.builds, self.granted, self.root_settings)

    async def ensure(self, spec: AppSpec, emit: Emit) -> ImageFact:
        """Return the image of an app, built if need be.

        Raises :class:`Unsupported` or :class:`InvalidInput` for a recipe or an environment that cannot be used,
        :class:`SecretNotFound` for a secret that the build needs, :class:`BuildFailed` when a build failed.
        """
        if spec.python_env:
            return given.image(spec.python_env)
        recipe = self.recipe_for(spec)
        image = await self.build(recipe, f"the image of {spec.key}", emit, of_image(spec.image))
        self.renewals.made(image.hash)
        return image

    def check(self, spec: AppSpec) -> bool:
        """Report whether the image of an app has a root of its own.

        Raise what :meth:`ensure` would before it begins to build, or why the app could not run with its image:
        :class:`InvalidInput`, :class:`Unsupported` or :class:`SecretNotFound`.
        """
        if spec.python_env:
            volumes.check(spec, rooted=False)
            given.image(spec.python_env)
            given.check_program(spec)
        else:
            recipe = self.recipe_for(spec)
            volumes.check(spec, rooted=isinstance(recipe, RootRecipe))
            if isinstance(recipe, RootRecipe):
                root_check.check(spec, _UNKNOWN, self.platform)
                root_check.check_python(spec, old_python(spec.image["spec"]))
            elif not spec.command:
                raise no_program(spec.key)
            _check_build(spec, _installs(recipe, spec.image))
            return isinstance(recipe, RootRecipe)
        return False

    def check_root(self, spec: AppSpec, image: ImageFact, root: RootFact) -> None:
        """Raise :class:`InvalidInput` or :class:`Unsupported` for an app, with its whole command, that cannot run."""
        root_check.check(spec, root, self.platform)
        root_script.check(spec, root, dict(image.env), (stack := self.roots.stack(root)).text)
        root_check.check_links(spec, volumes.mount_points(spec, root, stack.place), stack.leads_to)

    async def check_machine(self, recipe: Recipe | RootRecipe, image: Mapping[str, Any]) -> None:
        """Raise what is wrong with an image that is built before it is known which app it is for.

        :class:`NoGpu` for one of an engine on a machine without a GPU.
        """
        if engine := engine_of(_installs(recipe, image)):
            await self.need_gpu(engine)

    async def build(
        self,
        recipe: Recipe | RootRecipe,
        what: str,
        emit: Emit,
        copied: Collection[str] = (),
        rebuild: Rebuild | None = None,
    ) -> ImageFact:
        """Return the image of a recipe, built if need be. Raises :class:`BuildFailed`.

        ``copied``: the bundles that the build reads, which the caller holds; from now on they are held to its end.
        ``rebuild``: what ages in it is rebuilt, and counts when the caller says so (:class:`Renewals`).
        """
        digest = self._id(recipe, rebuild)
        with self._held(digest):
            action = BuildImage(digest)
            hold = partial(self.bundles.hold_until, digests=copied)
            if isinstance(recipe, RootRecipe):
                work = partial(self._built_root, recipe, digest, what, rebuild)
                return await self.builds.get(action, what, emit, work, hold)
            removed = digest in self.removing or any_removes(self.builds.earlier.running())
            record = self._record(digest) if not removed and action not in self.builds.wanted else None
            if record is not None:
                return await _image(recipe, digest, record, emit)
            return await self.builds.get(action, what, emit, partial(self._built, recipe, digest, what), hold)

    def _id(self, recipe: Recipe | RootRecipe, rebuild: Rebuild | None) -> str:
        """Return the hash of a Python environment; of an image of layers the name of its build."""
        key = key_of(recipe)
        if rebuild is None:
            return self.renewals.known.ids.get(key, key)
        name = renewed_id(key, rebuild.stamp)
        if isinstance(recipe, Recipe):
            rebuild.ids[key] = name
        return name

    @contextlib.contextmanager
    def hold(self, image: ImageFact) -> Iterator[None]:
        """Keep an image from being removed."""
        with contextlib.ExitStack() as stack:
            for name in (image.hash, *(image.root.layers if image.root else ())):
                stack.enter_context(self._held(name))
            yield

    def superseded(self, image: ImageFact) -> bool:
        """Report whether an image was rebuilt, so that its recipe now leads to another image."""
        return image.hash in self.renewals.known.images

    @contextlib.contextmanager
    def _held(self, digest: str) -> Iterator[None]:
        """Keep an image from being removed while it is returned to a caller."""
        self.held[digest] += 1
        try:
            yield
        finally:
            self.held[digest] -= 1
            if not self.held[digest]:
                del self.held[digest]
                self.made.pop(digest, None)

    def in_use(self) -> frozenset[str]:
        """Return the images, and the layers of images, that are about to be used."""
        return frozenset(self.held).union(*self.made.values())

    async def _built_root(
        self, recipe: RootRecipe, key: str, what: str, rebuild: Rebuild | None, emit: Emit
    ) -> ImageFact:
        image = await self.roots.built(recipe, what, emit, self.renewals.known.ids, rebuild)
        if key in self.held and image.root is not None:
            self.made[key] = frozenset((image.hash, *image.root.layers))
        return image

    async def _built(self, recipe: Recipe, digest: str, what: str, emit: Emit) -> ImageFact:
        record = self._record(digest)
        if record is None:
            await emit(Progress(STEP, f"building {what}"))
            others = [name for name, whole in self.found().items() if whole]
            uses = build_secrets(recipe, self.settings)
            self.granted[unit_name(digest)] = BuildGrant(*recipe.scope, uses)
            try:
                failure = await run(self.units, digest, recipe, self.settings, others, emit)
            finally:
                del self.granted[unit_name(digest)]
            record = self._record(digest)
            if record is None:
                raise failure
        return await _image(recipe, digest, record, emit)

    def recipe(self, image: dict[str, Any], project: str, domain: str) -> Recipe | RootRecipe:
        """Return the recipe that an app or a client describes, for one project and domain.

        Raises :class:`InvalidInput`, :class:`Unsupported`, or :class:`SecretNotFound` for one that it is built with.
        """
        return self.with_secrets(recipe_of(image), project, domain)

    def recipe_for(self, spec: AppSpec) -> Recipe | RootRecipe:
        """Return the recipe of an app's image. Raises as :meth:`recipe`."""
        return self.with_secrets(recipe_of(spec.image), spec.key.project, spec.key.domain)

    def with_secrets(self, recipe: Recipe | RootRecipe, project: str, domain: str) -> Recipe | RootRecipe:
        """Return a recipe with the machine's settings, for one project and domain.

        Raises :class:`InvalidInput`, or :class:`SecretNotFound` for a secret that it is built with.
        """
        if isinstance(recipe, RootRecipe):
            recipe = resolved(recipe, lambda key: self.resolve(key, project, domain))
            recipe = dataclasses.replace(recipe, login=recipe.login or self.root_settings.login)
            uses = [*secrets_of(recipe), *self.root_settings.secrets]
        else:
            uses = list(build_secrets(recipe, self.settings).values())
        for use in uses:
            self.resolve(use.key, project, domain)
        return dataclasses.replace(recipe, scope=(project, domain)) if uses else recipe

    def found(self) -> dict[str, bool]:
        """Return the Python environments on disk, by hash, and whether each is complete."""
        return {name: self._record(name) is not None for name in self._names()}

    def records(self) -> Iterator[ImageRecord]:
        """Yield the records of the images on disk that are complete, each when it is read."""
        yield from (record for name in self._names() if (record := self._record(name)) is not None)

    def _names(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [path.name for path in self.folder.iterdir() if is_hash(path.name)]
        return []

    def present(self, image: ImageFact) -> bool:
        """Report whether an image that a revision was made with is still complete."""
        if image.root is not None:
            return self.roots.present(image.hash, image.root)
        return self._record(image.hash) is not None if image.hash else Path(image.path, "bin/python").exists()

    def _record(self, digest: str) -> ImageRecord | None:
        try:
            return record_of(foreign_file.read(self.folder / digest / RECORD, _RECORD_LIMIT))
        except (OSError, StoreCorrupt, UnicodeDecodeError):
            return None


async def _image(recipe: Recipe, digest: str, record: ImageRecord, emit: Emit) -> ImageFact:
    """Return the image that a record describes; report the note of its build."""
    if record.note:
        await emit(Progress(NOTE, record.note))
    path = image_dir(digest)
    return ImageFact(
        path, digest, record.python, record.python_asked, record.note, env_of(recipe, path), record.built_at,
        record.built,
    )  # fmt: skip


def image_status(image: ImageFact) -> ImageStatus:
    """Return an image as clients see it."""
    known = {name: value for name, value in image.to_dict().items() if name != "root"}
    return ImageStatus(**known, digests=image.root.digests if image.root else ())


def machine() -> Machine:
    """Return what compiled packages and links to the system's Python depend on here."""
    return Machine(host.architecture(), host.libc(), host.system_python())


def key_of(recipe: Recipe | RootRecipe) -> str:
    """Return 32 hex digits, equal for equal recipes on equal machines."""
    return recipe_hash(recipe, machine()) if isinstance(recipe, Recipe) else recipe_key(recipe, host.architecture())


def recipe_of(image: dict[str, Any]) -> Recipe | RootRecipe:
    """Return the recipe that an app or a client describes.

    Raises :class:`InvalidInput` or :class:`Unsupported`.
    """
    spec, files, folders = image.get("spec"), image.get("files") or {}, image.get("folders") or {}
    if not isinstance(spec, dict) or not isinstance(files, dict) or not isinstance(folders, dict):
        raise InvalidInput("an image must have a spec, files and folders, all of them maps")
    return image_from_spec(spec, files, folders, host.architecture(), host.has)


def _installs(recipe: Recipe | RootRecipe, image: Mapping[str, Any]) -> tuple[Install, ...]:
    """Return what a recipe installs of Python packages; of an image of layers, as far as it is easy to see."""
    return recipe.installs if isinstance(recipe, Recipe) else pip_installs(image["spec"])


def _check_build(spec: AppSpec, installs: tuple[Install, ...]) -> None:
    """Raise :class:`Unsupported` rather than fetch gigabytes of CUDA for an engine that then finds no GPU."""
    shape = None if spec.gpu_count else shape_of(spec)
    if shape is not None and (build := gpu_build_of(installs, shape.engine)):
        raise Unsupported(
            f"not supported on this machine: {build} in the image of app '{spec.key}' is a build for GPUs, "
            "which does not start without one",
            hint="use an environment with a build for CPUs: flytectl serve FILE --cpu --python-env DIR",
        )
