"""ImageService: says whether an image was built already, which the SDK asks before it builds."""

from __future__ import annotations

from connectrpc.request import RequestContext
from flyteidl2.imagebuilder import definition_pb2 as definition
from flyteidl2.imagebuilder import payload_pb2 as pb
from flyteidl2.imagebuilder.service_connect import ImageService

from flyted.contract.answers.images import ImageEntry
from flyted.contract.errors import NotFound
from flyted.gateway.caller import caller
from flyted.gateway.files.recipes import checked, uri_of
from flyted.gateway.parts import Parts


class Images(ImageService):
    """The handler of ImageService."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def get_image(self, request: pb.GetImageRequest, ctx: RequestContext) -> pb.GetImageResponse:
        """Return the image that was built under a name, by its digest: of what it was rebuilt as, if it was.

        The SDK sends the address back with the app. A deploy makes the image of the recipe that has the name: of the
        digest, unless the image was rebuilt just then, or its base is another one today.

        Raise :class:`NotFound` if none was built under the name, or if its files are gone: the SDK then has it built.
        Raise :class:`~flyted.contract.errors.InvalidInput` for a bad name.
        """
        name = checked(request.id.name)
        image = self._parts.recipes.built_as(name)
        if not image or self._parts.recipes.find(name) is None:
            raise NotFound(f"image {name} has not been built on this machine yet")
        return pb.GetImageResponse(image=definition.Image(id=request.id, fqin=uri_of(name, await self._now(image))))

    async def _now(self, image: str) -> str:
        """Return the hash of what an image was rebuilt as last. Raise :class:`NotFound` if its files are gone."""
        found = await self._image(image)
        return (await self._image(found.rebuilt_as)).hash if found.rebuilt_as else found.hash

    async def _image(self, image: str) -> ImageEntry:
        return await self._parts.daemon.call(ImageEntry, "image.get", {"hash": image}, token=caller().token)
