"""Rebuilds an image with the packages of today, and deploys the apps that use it onto the new one.

The old image stays what it was, and apps keep it until a revision on the new one serves. A rebuild counts from the
moment at which the new image is whole. If flyted is killed before that, nothing has happened; after it, apps that were
not deployed yet get the new image with their next deploy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from flyted.contract.answers.events import STEP, Progress
from flyted.contract.answers.images import Rebuilt
from flyted.contract.bundles import of_image
from flyted.contract.errors import Busy, DeployFailed, FlytedError, InvalidInput
from flyted.daemon.api.changes import user_of
from flyted.daemon.api.verbs import Call, Right, Verb
from flyted.daemon.apps.deploy import Deploy
from flyted.daemon.images.images import Images, key_of
from flyted.daemon.images.listing import by_prefix, entries
from flyted.daemon.images.renewed import Rebuild
from flyted.plan.facts import ImageFact, StoredApp
from flyted.plan.images.renewed import Renewed

SHOWN = 12
"""Digits of a hash in a message."""


@dataclass
class RebuildVerbs:
    """The handler of ``image.rebuild``. ``soon()``: has unused images looked for."""

    images: Images
    deploy: Deploy
    soon: Callable[[], None]
    _going_on: set[str] = field(default_factory=set)

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        return {"image.rebuild": Verb(Right.OPERATE, {"hash": str, "deploy": bool}, self.rebuild, changes=True)}

    async def rebuild(self, call: Call) -> Rebuilt:
        """Rebuild an image that apps use; with ``deploy``, redeploy those that run, one after the other.

        A client that leaves while the image is built calls it off, and nothing has changed; the deploys go on.
        Raises :class:`InvalidInput`, :class:`NotFound`, :class:`Busy`, :class:`BuildFailed` when nothing has changed,
        and :class:`DeployFailed` when not every app came up in the new image. If none did, the old one counts again.
        """
        old = by_prefix(call.args["hash"], entries(self.images, self.deploy.store.apps())).hash
        call.about.tell(image=old)
        try:
            return await self._rebuilt(call, old)
        finally:
            self.soon()

    async def _rebuilt(self, call: Call, old: str) -> Rebuilt:
        with self._alone(old):
            rebuild, image = await self._built(call, old)
            if image.hash == old:
                call.about.outcome = "unchanged"
                return Rebuilt(old, old, (), ())
            with self.images.hold(image):
                before, new = self.images.renewals.known, Renewed(rebuild.ids, {old: image.hash})
                self.images.renewals.keep(new)
                deployed, failed = await self._deployed(call, old) if call.args["deploy"] else ([], [])
                none = not deployed and not self._users(image.hash)  # a deploy beside this one may have taken it
                if failed and none:
                    self.images.renewals.undo(new, before)
        call.about.tell(app=deployed)
        if failed:
            kept = "; the old image is used again" if none else ""
            raise DeployFailed(
                f"the image was rebuilt, but not every app started with it: {'; '.join(failed)}{kept}",
                hint=f"flytectl image rebuild --no-deploy {old[:SHOWN]}, then serve an app's changed file",
            )
        return Rebuilt(old, image.hash, tuple(deployed), tuple(str(app.key) for app in self._users(old)))

    @contextlib.contextmanager
    def _alone(self, image: str) -> Iterator[None]:
        if image in self._going_on:
            raise Busy(f"image {image[:SHOWN]} is already being rebuilt", hint="wait for it: flytectl image ls")
        self._going_on.add(image)
        try:
            yield
        finally:
            self._going_on.remove(image)

    def _users(self, image: str) -> list[StoredApp]:
        return [app for app in self.deploy.store.apps() if app.current and app.current.image.hash == image]

    async def _built(self, call: Call, old: str) -> tuple[Rebuild, ImageFact]:
        """Build the image by the recipe of an app that uses it; if that fails, as for a login, by another app's."""
        users = self._users(old)
        if not users:
            raise InvalidInput(
                f"no app uses image {old[:SHOWN]}, and only an app's revision has an image's recipe",
                hint="flytectl image build FILE, or flytectl image pull NAME",
            )
        different = list({self._made_by(app): app for app in users}.values())
        for last, app in ((app is different[-1], app) for app in different):
            try:
                return await self._of_app(call, app)
            except FlytedError as error:
                if last:
                    raise
                await call.emit(Progress(STEP, f"the recipe of {app.key} failed: {error.message}"))
        raise AssertionError("the last one returns or raises")

    def _made_by(self, app: StoredApp) -> str:
        """Return what is equal for apps whose images are made in the same way, with the same logins and secrets."""
        if app.current is None:
            raise AssertionError("it uses the image")
        try:
            return key_of(self.images.recipe_for(app.current.spec))
        except FlytedError:  # it is said why when it is tried
            return str(app.key)

    async def _of_app(self, call: Call, app: StoredApp) -> tuple[Rebuild, ImageFact]:
        if app.current is None:
            raise AssertionError("it uses the image")
        spec, root = app.current.spec, app.current.image.root
        bases = frozenset(name for name, _digest in root.digests) if root else frozenset()
        rebuild = Rebuild(os.urandom(16).hex(), bases)
        named = of_image(spec.image)
        recipe = self.images.recipe_for(spec)
        async with self.images.bundles.held(named, {}):
            built = self.images.build(recipe, f"the image of {app.key}", call.emit, named, rebuild)
            return rebuild, await call.while_there(built)

    async def _deployed(self, call: Call, old: str) -> tuple[list[str], list[str]]:
        """Deploy the apps that use the old image; return those that came up in the new one, and why others did not."""
        deployed, failed = [], []
        for app in self._users(old):
            try:
                if await self.deploy.onto_rebuilt(app.key, call.emit, user_of(call.actor)):
                    deployed.append(str(app.key))
            except FlytedError as error:
                failed.append(f"{app.key}: {error.message}")
        return deployed, failed
