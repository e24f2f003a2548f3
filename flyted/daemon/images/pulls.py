"""Asks registries which image a name currently stands for, and pulls it, in units without rights.

Tags move, so a registry is asked each time. The last answer is kept for the time in which the registry does not
answer (known.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flyted.contract.answers.events import NOTE, STEP, Progress
from flyted.contract.errors import BuildFailed, HostFailure
from flyted.daemon.api.verbs import Emit
from flyted.daemon.effects import Units
from flyted.daemon.images.builds import Builds, run_unit
from flyted.daemon.images.known import RECORD_LIMIT, Known
from flyted.daemon.images.silent import Silent
from flyted.host import foreign_file
from flyted.host import machine as host
from flyted.host.network import nameservers
from flyted.plan.actions import PullImage
from flyted.plan.facts import UnitEnd
from flyted.plan.images import pull_unit
from flyted.plan.images.build_unit import loopback_nameservers
from flyted.plan.images.layers import references
from flyted.plan.images.pull_unit import PulledImage, PullSettings, login_grant
from flyted.plan.images.root import OciBase, RootRecipe
from flyted.plan.secrets import BuildGrant

_ENDED_WELL = UnitEnd("success", 0)


class Pulls:
    """The container images that root images are made from.

    ``blobs``: where the units put them; ``known``: records which image each name was last; ``granted``: lets
    a unit have its logins while it runs.
    """

    def __init__(
        self,
        units: Units,
        builds: Builds,
        blobs: Path,
        known: Path,
        granted: Callable[[str, BuildGrant | None], AbstractContextManager[None]],
        settings: PullSettings,
    ) -> None:
        self._units = units
        self._builds = builds
        self._blobs = blobs
        self.known = Known(known)
        self._granted = granted
        self._settings = settings
        self._silent = Silent()

    async def bases(self, recipe: RootRecipe, emit: Emit, must: Collection[str] = ()) -> dict[str, PulledImage]:
        """Return the images that the names in a recipe currently stand for, by name.

        Where a registry does not answer, that is the image that a name was last, and for a name that has been nothing
        yet and that the recipe can do without, none. ``must``: names that are to be asked for in any case.

        Raises :class:`BuildFailed` for a name without which nothing can be built.
        """
        others = {
            stage.base.reference for stage in recipe.stages
            if isinstance(stage.base, OciBase) and stage.base.otherwise is not None
        }  # fmt: skip
        found = {}
        for name in references(recipe):
            ask = _Ask(name, login_grant(recipe.login, recipe.scope))
            image = await self._now(ask, emit, name in must, name in others)
            if image is not None:
                found[name] = image
        return found

    def ask_again(self, name: str) -> None:
        """Ask the registry of a container image the next time, although it has just not answered."""
        self._silent.forget(pull_unit.image_name(name, "the image").registry)

    async def layer(self, digest: str, image: PulledImage, recipe: RootRecipe, emit: Emit) -> None:
        """Download the layers of an image, which were deleted if they have been unpacked before.

        Raises :class:`BuildFailed`.
        """
        if not (self._blobs / "sha256" / digest.removeprefix("sha256:")).exists():
            name = f"{pull_unit.image_name(image.reference, 'the base image').name}@{image.manifest}"
            pulled = await self._pull(_Ask(name, login_grant(recipe.login, recipe.scope)), emit)
            if isinstance(pulled, _NotPulled):
                raise pulled.why

    async def _now(self, ask: _Ask, emit: Emit, must: bool, otherwise: bool) -> PulledImage | None:  # noqa: FBT001
        """Return the image that a name stands for. ``otherwise``: the recipe can do without; it may be ``None``."""
        registry = pull_unit.image_name(ask.name, "the base image").registry
        known = None if must else self.known.find(ask.key)
        says = "does not answer"
        if registry in self._silent and not must and (known or otherwise):
            await emit(Progress(STEP, f"{registry} did not answer some minutes ago; it will be asked later"))
        else:
            image = await self._pull(replace(ask, resolve_only=True), emit)
            if isinstance(image, PulledImage):
                self._silent.forget(registry)
                return image
            if image.lacking:
                says = "does not have it any more"
            else:
                self._silent.add(registry)
            if must or not (otherwise or (known and not image.lacking)):
                raise image.why if must or image.lacking else self._explained(image.why, ask)
            await emit(Progress(STEP, image.why.message))
        if known is not None:
            day = datetime.fromtimestamp(known.asked_at, UTC).date()
            text = f"{registry} {says}: {ask.name} is used as it was on {day}, {known.image.manifest[:19]}"
            await emit(Progress(NOTE, text))
            return known.image
        return None

    def _explained(self, failure: BuildFailed, ask: _Ask) -> BuildFailed:
        """Return why an image cannot be pulled, with a note if another login would work."""
        if not self.known.has(str(pull_unit.image_name(ask.name, "the base image"))):
            return failure
        why = f"{failure.message}; it was pulled before with another login or with none"
        return BuildFailed(why, hint=failure.hint)

    async def _pull(self, ask: _Ask, emit: Emit) -> PulledImage | _NotPulled:
        """Pull a container image, or resolve its name; return why that failed if another image may do.

        Raises :class:`BuildFailed` for all other failures.
        """
        reference, resolve_only = pull_unit.image_name(ask.name, "the base image"), ask.resolve_only
        unit = ask.unit
        await emit(Progress(STEP, f"{'looking up' if resolve_only else 'pulling'} {reference}"))

        def wanted(pipe: int) -> dict[str, Any]:
            closed = loopback_nameservers(nameservers())
            settings = replace(self._settings, addresses=closed, output_fd=pipe)
            return pull_unit.pull_unit(
                reference, _platform(), settings, login=ask.login is not None, resolve_only=resolve_only
            )

        async def work(tell: Emit) -> PulledImage | _NotPulled:
            with self._granted(unit, ask.login):
                end, lines = await run_unit(self._units, unit, wanted, tell)
            if end == _ENDED_WELL:
                text = self._record(pull_unit.record_path(pull_unit.resolved(lines), resolve_only=resolve_only))
                if resolve_only:
                    self.known.keep(ask.key, text)
                return pull_unit.pulled_image(text)
            failure = pull_unit.pull_failure(reference, end.result, end.status, lines, self._settings.mirrors)
            lacking = pull_unit.lacking(reference, end, self._settings.mirrors)
            if lacking or pull_unit.unreachable(end):
                return _NotPulled(failure, lacking)
            raise failure

        return await self._builds.get(PullImage(unit), str(reference), emit, work)

    def _record(self, record: str) -> str:
        try:
            return foreign_file.read(self._blobs / Path(record).relative_to(pull_unit.BLOBS), RECORD_LIMIT)
        except (OSError, UnicodeDecodeError) as error:
            raise HostFailure(f"{record} cannot be read: {error}", hint="serve again") from error


@dataclass(frozen=True)
class _NotPulled:
    """A registry that does not answer or, if ``lacking``, a mirror that has no such image."""

    why: BuildFailed
    lacking: bool


@dataclass(frozen=True)
class _Ask:
    """A request for an image: a caller without its login must not get the answer."""

    name: str
    login: BuildGrant | None
    resolve_only: bool = False

    @property
    def unit(self) -> str:
        reference = pull_unit.image_name(self.name, "the base image")
        return pull_unit.unit_name(reference, _platform(), resolve_only=self.resolve_only, login=self.login)

    @property
    def key(self) -> str:
        """The key under which the answer is stored."""
        return replace(self, resolve_only=True).unit.removesuffix(".service")


def _platform() -> str:
    return pull_unit.platform_of(host.architecture())
