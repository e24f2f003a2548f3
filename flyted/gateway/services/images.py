"""ImageService: says whether an image was built already, which the SDK asks before it builds."""

from __future__ import annotations

from connectrpc.request import RequestContext
from flyteidl2.imagebuilder import definition_pb2 as definition
from flyteidl2.imagebuilder import payload_pb2 as pb
from flyteidl2.imagebuilder.service_connect import ImageService

from flyted.contract.errors import NotFound
from flyted.gateway.files.recipes import checked, uri_of
from flyted.gateway.parts import Parts


class Images(ImageService):
    """The handler of ImageService."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def get_image(self, request: pb.GetImageRequest, ctx: RequestContext) -> pb.GetImageResponse:
        """Return the image that was built under a name. If its files are gone since, the next deploy makes them again.

        Raise :class:`NotFound` if none was built under it, and :class:`~flyted.contract.errors.InvalidInput` for a bad
        name.
        """
        name = checked(request.id.name)
        if self._parts.recipes.find(name) is None:
            raise NotFound(f"image {name} has not been built on this machine yet")
        return pb.GetImageResponse(image=definition.Image(id=request.id, fqin=uri_of(name)))
