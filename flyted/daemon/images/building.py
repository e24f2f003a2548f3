"""Builds and pulls images before an app uses them."""

from __future__ import annotations

from flyted.contract.answers.apps import ImageStatus
from flyted.contract.answers.events import Accepted
from flyted.contract.answers.images import PulledImage
from flyted.contract.bundles import of_image
from flyted.contract.errors import HostFailure
from flyted.contract.names import label
from flyted.daemon.api.verbs import Call, Right, Verb
from flyted.daemon.apps.bundles import check
from flyted.daemon.images.images import Images, image_status, key_of
from flyted.daemon.images.unused import UnusedImages
from flyted.plan.images.pull_unit import image_name, login_use
from flyted.plan.images.root import as_pulled


class BuildVerbs:
    """The handlers of the verbs that make images for which no app waits."""

    def __init__(self, images: Images, unused: UnusedImages) -> None:
        self._images = images
        self._unused = unused

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        scope: dict[str, type] = {"project": str, "domain": str}
        pulled: dict[str, type] = {**scope, "name": str, "registry_secret": str}
        return {
            "image.build": Verb(
                Right.OPERATE, {**scope, "image": dict}, self.build, until_gone=True, bundles=True, changes=True
            ),
            "image.pull": Verb(Right.OPERATE, pulled, self.pull, until_gone=True, changes=True),
        }

    async def build(self, call: Call) -> ImageStatus:
        """Build an image ahead of the app that will use it; what uv says streams as events.

        A client that leaves calls the build off.
        Raises as :meth:`Images.ensure` and :meth:`Images.check_machine`.
        """
        project, domain = _scope(call)
        named = of_image(call.args["image"])
        check(call.bundles, named, in_memory=call.actor.token is None)
        recipe = self._images.recipe(call.args["image"], project, domain)
        await self._images.check_machine(recipe, call.args["image"])
        await call.emit(Accepted("checked the image"))
        call.about.tell(image=key_of(recipe))
        try:
            async with self._images.bundles.held(named, call.bundles):
                image = await self._images.build(recipe, "the image", call.emit, named)
        finally:
            self._images.bundles.sweep()
            self._unused.soon()
        self._unused.used_now(image)
        return image_status(image)

    async def pull(self, call: Call) -> PulledImage:
        """Pull a container image ahead of the app that will use it, or be based on it.

        It becomes an image without steps of its own, and is kept like every unused one. Raises :class:`InvalidInput`
        for what is no name, :class:`SecretNotFound`, and :class:`BuildFailed` for what the registry refuses.
        """
        project, domain = _scope(call)
        name, secret = call.args["name"], call.args["registry_secret"]
        reference = image_name(name, "the image")
        asked = as_pulled(name, login_use(secret).key if secret else "")
        call.about.tell(image=str(reference))
        self._images.roots.pulls.ask_again(name)  # its user may know that the registry is back
        recipe = self._images.with_secrets(asked, project, domain)
        try:
            image = await self._images.build(recipe, str(reference), call.emit)
        finally:
            self._unused.soon()
        if image.root is None:
            raise HostFailure(f"{reference} was pulled but has no layers")  # a fault of ours
        self._unused.used_now(image)
        layers = image.root.layers
        digest = dict(image.root.digests)[name]
        return PulledImage(
            str(reference), digest, image.hash, len(layers), self._images.roots.layers_on_disk.bytes_of(layers)
        )


def _scope(call: Call) -> tuple[str, str]:
    """Return project and domain. Raises :class:`InvalidInput`."""
    project, domain = (label(call.args[kind], kind) for kind in ("project", "domain"))
    return project, domain
