"""Builds root images: pulls what they are based on, and builds the layers that are missing.

Each layer, and each pull, is an action of its own, so that images that begin alike wait for one of them. A layer's
record is written when its unit has ended well, an image's when all its layers have theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from flyted.contract.answers.events import BUILD, NOTE, STEP, Event, Progress
from flyted.contract.app import SecretUse
from flyted.contract.errors import BuildFailed, StoreCorrupt
from flyted.contract.names import printable
from flyted.daemon.api.verbs import Emit
from flyted.daemon.effects import Units
from flyted.daemon.images.builds import Builds, run_unit
from flyted.daemon.images.layers_on_disk import LayersOnDisk, listed
from flyted.daemon.images.pulls import Pulls
from flyted.daemon.images.renewed import Rebuild
from flyted.host import machine as host
from flyted.host import whole_file
from flyted.host.disk import used_bytes
from flyted.host.layers import Stack
from flyted.host.network import nameservers
from flyted.plan.actions import MakeLayer
from flyted.plan.data_folder import DATA
from flyted.plan.facts import ImageFact, Place, RootFact, UnitEnd
from flyted.plan.images import pull_unit, root_mount
from flyted.plan.images.build_unit import is_hash
from flyted.plan.images.layer_unit import LayerSettings, layer_failure, layer_unit_name, located, split_size
from flyted.plan.images.layers import Pulled, plan_of
from flyted.plan.images.oci_config import image_config
from flyted.plan.images.own_folders import MOST_BYTES, MOST_FILES, Folders, Own, own_folders, user_id
from flyted.plan.images.pull_unit import PulledImage, PullSettings
from flyted.plan.images.root import ImageConfig, RootPlan, RootRecipe
from flyted.plan.images.root_check import check_places
from flyted.plan.images.root_record import (
    LayerRecord,
    RootRecord,
    c_libraries,
    pythons,
    root_hash,
    root_record,
    root_text,
    version_of,
)
from flyted.plan.images.root_steps import Granted, describe, granted, missing
from flyted.plan.secrets import BuildGrant

PULLED = "pulled"
"""What was pulled, among the names of images and layers."""
_PASSWD_LIMIT = 1 << 20
_ENDED_WELL = UnitEnd("success", 0)


@dataclass(frozen=True)
class RootSettings:
    """The machine's settings for root images. ``secrets``: images.secrets, for commands that run uv.

    ``login``: images.registry_secret, for images that name no secret of their own.
    """

    layers: LayerSettings = field(default_factory=LayerSettings)
    pulls: PullSettings = field(default_factory=PullSettings)
    secrets: tuple[SecretUse, ...] = ()
    login: str = ""


class Roots:
    """The root images of this machine, below ``state``; ``allowed``: where builds that read secrets are noted."""

    def __init__(
        self, units: Units, state: Path, builds: Builds, allowed: dict[str, BuildGrant], settings: RootSettings
    ) -> None:
        self._units = units
        self._builds = builds
        self._allowed = allowed
        self._settings = settings
        self.layers_on_disk = LayersOnDisk(state / "layers", state / "roots/layers")
        self._blobs = state / "blobs"
        self._records = state / "roots"
        self.pulls = Pulls(units, builds, self._blobs, self._records / "known", self._granted, settings.pulls)

    # what is there

    def layers(self) -> dict[str, bool]:
        """Return the layers on the disk, by id, and whether each is whole; without those that are being made."""
        found, whole = self.layers_on_disk.folders(), self.layers_on_disk.whole()
        found -= {each for each in found - whole if not self._units.rests(layer_unit_name(each))}
        return {each: each in whole for each in found}

    def images(self) -> dict[str, bool]:
        """Return the images on the disk, by hash, and whether all layers of each are whole."""
        return {name: record is not None for name, record in self._recorded()}

    def pulled(self) -> dict[str, bool]:
        """Return :data:`PULLED` if something of container images is on the disk: layers are unpacked from it.

        No app needs it. It is kept as long as an unused image, so that an interrupted pull can be continued.
        """
        return {PULLED: True} if self._blobs.exists() else {}

    def pulled_bytes(self) -> int:
        """Return the bytes of the disk that the downloads take."""
        return used_bytes(self._blobs)

    def present(self, digest: str, root: RootFact) -> bool:
        """Report whether an image that a revision was made with is still complete."""
        return self._record(digest) is not None and self.layers_on_disk.are_whole(root.layers)

    def stack(self, root: RootFact) -> Stack:
        """Return the layers of an image, to look into."""
        return Stack(self.layers_on_disk.folder, root.layers)

    def records(self) -> Iterator[tuple[RootRecord, tuple[LayerRecord, ...]]]:
        """Yield the complete images on the disk, with the records of their layers, in no order."""
        for _name, record in self._recorded():
            if record is not None:
                yield record, tuple(map(self.layers_on_disk.record, record.layers))

    def keys(self) -> set[str]:
        """Return the keys of layers that were rebuilt for the images on the disk."""
        return {key for _name, record in self._recorded() if record is not None for key in record.keys}

    def forget(self, digests: Collection[str]) -> None:
        """Delete the records of images and layers, before the layers themselves are."""
        for digest in digests:
            (self._records / f"{digest}.json").unlink(missing_ok=True)
            self.layers_on_disk.forget(digest)
        whole = [record.digests for _name, record in self._recorded() if record is not None]
        self.pulls.known.forget_all_but({manifest for digests in whole for manifest in digests.values()})

    # a build

    async def built(
        self,
        recipe: RootRecipe,
        what: str,
        emit: Emit,
        renewed: Mapping[str, str],
        rebuild: Rebuild | None = None,
    ) -> ImageFact:
        """Return an image; make the layers that are missing, one after the other.

        ``renewed``: see :class:`~flyted.plan.images.renewed.Renewed`. With ``rebuild`` what ages is rebuilt.

        Raises :class:`BuildFailed`, :class:`HostFailure`, and :class:`InvalidInput` or :class:`Unsupported` for what
        is known of a base image only when it was found. The layers before a step that fails stay.
        """
        found = await self.pulls.bases(recipe, emit, rebuild.bases if rebuild else ())
        pulled = {name: _pulled(name, image) for name, image in found.items()}
        plan = plan_of(recipe, host.architecture(), pulled, renewed, rebuild.stamp if rebuild else "")
        if rebuild is not None:
            rebuild.ids.update(plan.renewed)
        digest = root_hash(plan)
        todo = missing(plan, self.layers_on_disk.whole())
        if any(job.job["step"]["kind"] != "oci" for _number, job in todo):
            await emit(Progress(STEP, f"building {what}"))
        blobs = {layer.digest: name for name, image in found.items() for layer in image.layers}
        for number, job in todo:
            step = job.job["step"]
            where = f"step {number}/{len(plan.jobs)}"
            if step["kind"] == "oci":
                await self.pulls.layer(step["blob"], found[blobs[step["blob"]]], recipe, emit)
            await emit(Progress(STEP, f"{where}: {describe(job)}"))
            made = partial(self._made, granted(job, self._settings.secrets), recipe.scope)
            try:
                await self._builds.get(MakeLayer(job.id), where, emit, made)
            except BuildFailed as error:
                raise located(job.where, error) from error
        digests = {name: image.manifest for name, image in found.items()}
        record = self._record(digest)
        if record is None or not self.layers_on_disk.are_whole(record.layers):
            stack = Stack(self.layers_on_disk.folder, plan.layers)
            await asyncio.to_thread(check_places, what, plan.layers, stack.place)
            record = await self._write(digest, plan, digests, stack)
        for note in record.notes:
            await emit(Progress(NOTE, note))
        return replace(record, digests=digests).image()  # it may have been made under another name

    async def _made(self, made: Granted, scope: tuple[str, str], emit: Emit) -> None:
        """Make a layer, and record it. Raises :class:`BuildFailed`."""
        job, unit = made.job, layer_unit_name(made.job.id)
        if self.layers_on_disk.are_whole([job.id]):  # another build made it after this one had looked
            return
        settings = replace(self._settings.layers, nameservers=nameservers())
        began = time.time()

        async def tell(event: Event) -> None:
            text, takes = split_size(event.text) if isinstance(event, Progress) else ("", None)
            if takes is None:
                await emit(event)
            elif text:  # the size is for the record
                await emit(Progress(BUILD, text))

        with self._granted(unit, BuildGrant(*scope, made.uses) if made.uses else None):
            end, lines = await run_unit(self._units, unit, partial(made.unit, settings), tell)
        if end != _ENDED_WELL:
            raise layer_failure(describe(job), end.result, end.status, lines, settings)
        now, takes = time.time(), split_size(lines[-1])[1] if lines else None
        self.layers_on_disk.add(job, LayerRecord(describe(job), round(now - began, 3), takes or 0), now)

    @contextlib.contextmanager
    def _granted(self, unit: str, grant: BuildGrant | None) -> Iterator[None]:
        """Let a unit have its secrets as long as it runs."""
        if grant is not None:
            self._allowed[unit] = grant
        try:
            yield
        finally:
            self._allowed.pop(unit, None)

    async def _write(self, digest: str, plan: RootPlan, digests: Mapping[str, str], stack: Stack) -> RootRecord:
        """Look at an image's files, in a thread: they may be thousands. Record the image."""
        record = await asyncio.to_thread(_looked_at, digest, plan, digests, stack)
        whole_file.write_and_keep(self._records / f"{digest}.json", root_text(record).encode())
        return record

    def _recorded(self) -> Iterator[tuple[str, RootRecord | None]]:
        """Yield the hash of each image on the disk, and its record, ``None`` if it or a layer is not whole."""
        whole = self.layers_on_disk.whole()
        for name in [path.stem for path in listed(self._records) if is_hash(path.stem)]:
            record = self._record(name)
            yield name, record if record is not None and whole.issuperset(record.layers) else None

    def _record(self, digest: str) -> RootRecord | None:
        try:
            return root_record((self._records / f"{digest}.json").read_text())
        except (OSError, StoreCorrupt, UnicodeDecodeError):
            return None


def _looked_at(digest: str, plan: RootPlan, digests: Mapping[str, str], stack: Stack) -> RootRecord:
    """Return the record of an image, with its Python, and what apps can write to."""
    found = {path: version_of(stack.real(path).rpartition("/")[2]) for path in pythons(plan.config)}
    python = next((path for path, version in found.items() if version), "")
    own, data = _own(plan.config, stack, python), is_free(DATA, stack)
    own = own.without(DATA) if data else own
    volumes = [volume for volume in plan.config.volumes if not (data and volume == DATA)]
    shipped = () if data else (f"the image has files in {DATA}, which the app sees there: its own data is in $HOME",)
    notes = (*plan.notes, *own.notes(volumes), *shipped, *_links(stack))
    return RootRecord(
        digest,
        plan.layers,
        plan.config,
        python,
        found.get(python, ""),
        notes,
        digests,
        time.time(),
        own.folders,
        has_musl(stack),
        plan.keys,
        data,
    )


def _pulled(name: str, image: PulledImage) -> Pulled:
    return Pulled(tuple((layer.digest, layer.media) for layer in image.layers), image_config(name, image.config))


def _own(config: ImageConfig, stack: Stack, python: str) -> Own:
    size = partial(stack.size, most_files=MOST_FILES, most_bytes=MOST_BYTES)
    user = user_id(config.user, stack.text("/etc/passwd", _PASSWD_LIMIT))
    pythons = (python, stack.real(python))
    return own_folders(user, config.volumes, Folders(stack.below, size), pythons if python else ())


def is_free(path: str, stack: Stack) -> bool:
    """Report whether an image has nothing at a path, or an empty folder."""
    there = stack.place(path, links=False)
    return there is Place.NOTHING or (there is Place.FOLDER and stack.size(path, 0, 0)[0] == 0)


def _links(stack: Stack) -> tuple[str, ...]:
    """Return what people are told of homes that are links: systemd would follow these on the machine."""
    found = {path: stack.real(path) for path in root_mount.HOMES}
    return tuple(
        f"{path} of its image is a link: the app finds an empty folder there, and its files in {printable(real)}"
        for path, real in found.items()
        if real not in ("", path)
    )


def has_musl(stack: Stack) -> bool:
    """Report whether an image has the C library musl, and not glibc."""
    loader, glibc = c_libraries(host.architecture())
    return bool(stack.real(loader)) and not any(map(stack.real, glibc))


def _platform() -> str:
    return pull_unit.platform_of(host.architecture())
