"""DataProxyService: addresses for uploads, and the inputs, outputs and logs of image builds."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator

from connectrpc.request import RequestContext
from flyteidl2.common import run_pb2
from flyteidl2.core import literals_pb2
from flyteidl2.dataproxy import dataproxy_service_pb2 as pb
from flyteidl2.dataproxy.dataproxy_service_connect import DataProxyService
from flyteidl2.task import common_pb2
from google.protobuf.message import DecodeError

from flyted.contract.errors import NOT_HERE, InvalidInput, NotFound, Unsupported
from flyted.gateway.caller import caller, may_operate
from flyted.gateway.files.blobs import BlobKey
from flyted.gateway.parts import Parts
from flyted.gateway.services.build_log import followed

INPUTS = "flyted-inputs:"
INPUTS_BYTES = 64 << 10


class Data(DataProxyService):
    """The handlers of DataProxyService."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def create_upload_location(
        self, request: pb.CreateUploadLocationRequest, ctx: RequestContext
    ) -> pb.CreateUploadLocationResponse:
        """Give out an address to upload a file to, valid for as long as the client asks, an hour at most.

        Raise :class:`~flyted.contract.errors.PermissionRefused` for a token that may not operate apps, and
        :class:`InvalidInput` for a bad place, MD5 or length.
        """
        may_operate()
        if len(request.content_md5) != 16:
            raise InvalidInput("an upload needs content_md5, the MD5 of its content")
        place = BlobKey(request.project, request.domain, request.content_md5.hex(), request.filename)
        uploads = self._parts.uploads
        url, expires = uploads.address(place, caller(), request.content_length, request.expires_in.seconds)
        answer = pb.CreateUploadLocationResponse(signed_url=url, native_url=place.url)
        answer.expires_at.FromSeconds(expires)
        return answer

    async def upload_inputs(self, request: pb.UploadInputsRequest, ctx: RequestContext) -> pb.UploadInputsResponse:
        """Return an address that holds the inputs: those of a build are three short texts, so nothing is stored.

        Raise :class:`Unsupported` for more than 64 KiB, which only inputs of tasks have.
        """
        data = request.inputs.SerializeToString()
        if len(data) > INPUTS_BYTES:
            raise Unsupported(f"task inputs are not supported: {NOT_HERE}")
        uri = INPUTS + base64.urlsafe_b64encode(data).decode()
        return pb.UploadInputsResponse(offloaded_input_data=run_pb2.OffloadedInputData(uri=uri, inputs_hash="-"))

    async def get_action_data(self, request: pb.GetActionDataRequest, ctx: RequestContext) -> pb.GetActionDataResponse:
        """Return the output of a build, the image's name. Raise :class:`NotFound` if the build has none (yet)."""
        run = self._parts.jobs.run(request.action_id.run.name)
        if not run.image:
            raise NotFound(f"build {run.name} has no image")
        value = literals_pb2.Literal(
            scalar=literals_pb2.Scalar(primitive=literals_pb2.Primitive(string_value=run.image))
        )
        outputs = common_pb2.Outputs(literals=[common_pb2.NamedLiteral(name="o0", value=value)])
        return pb.GetActionDataResponse(outputs=outputs)

    async def tail_logs(self, request: pb.TailLogsRequest, ctx: RequestContext) -> AsyncIterator[pb.TailLogsResponse]:
        """Yield the output of a build. Yields and raises as :func:`~flyted.gateway.services.build_log.followed`."""
        async for answer in followed(self._parts, request.action_id.run.name):
            yield answer


def inputs_of(uri: str) -> common_pb2.Inputs:
    """Return the inputs that an address of :meth:`Data.upload_inputs` holds.

    Raise :class:`InvalidInput` for any other address.
    """
    inputs = common_pb2.Inputs()
    try:
        if not uri.startswith(INPUTS) or len(uri) > 2 * INPUTS_BYTES:
            raise InvalidInput("these inputs were not uploaded to this machine")
        inputs.ParseFromString(base64.b64decode(uri.removeprefix(INPUTS), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, DecodeError) as error:
        raise InvalidInput("these inputs were not uploaded to this machine") from error
    return inputs
