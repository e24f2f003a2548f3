"""SecretService: Flyte's secrets in flyted's store. Values pass through and are not kept here; none is returned."""

from __future__ import annotations

from typing import Any

from connectrpc.request import RequestContext
from flyteidl2.secret import definition_pb2 as definition
from flyteidl2.secret import payload_pb2 as pb
from flyteidl2.secret.secret_connect import SecretService

from flyted.contract.answers.secrets import SecretList, SecretStatus, Stored
from flyted.contract.errors import InvalidInput
from flyted.gateway.caller import caller
from flyted.gateway.daemon import Kind
from flyted.gateway.idl.paging import page
from flyted.gateway.parts import Parts

LIST_LIMIT = 100


class Secrets(SecretService):
    """The handlers of SecretService.

    A request means one scope exactly, as in Flyte: the organisation (the whole machine), a domain, or a project's
    domain.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def create_secret(self, request: pb.CreateSecretRequest, ctx: RequestContext) -> pb.CreateSecretResponse:
        """Create a secret. Raise ``AlreadyExists`` if it exists, so that nothing is replaced by accident.

        One for pulls of images, which the SDK makes a config.json of Docker's, is a secret like others: of an image
        that names it, or of all by images.registry_secret of flyted.toml. Raise :class:`InvalidInput` for an empty
        value or a bad name.
        """
        await self._put(request.id, request.secret_spec, replace=False)
        return pb.CreateSecretResponse()

    async def update_secret(self, request: pb.UpdateSecretRequest, ctx: RequestContext) -> pb.UpdateSecretResponse:
        """Replace the value of a secret. Raise ``SecretNotFound`` if there is none.

        For the value the same holds as in :meth:`create_secret`.
        """
        await self._call(SecretStatus, "secret.get", request.id)
        await self._put(request.id, request.secret_spec, replace=True)
        return pb.UpdateSecretResponse()

    async def get_secret(self, request: pb.GetSecretRequest, ctx: RequestContext) -> pb.GetSecretResponse:
        """Describe a secret, but never its value. Raise ``SecretNotFound`` if there is none."""
        found = await self._call(SecretStatus, "secret.get", request.id)
        return pb.GetSecretResponse(secret=_message(found, request.id.organization))

    async def list_secrets(self, request: pb.ListSecretsRequest, ctx: RequestContext) -> pb.ListSecretsResponse:
        """List the secrets of one scope, page by page. Raise :class:`InvalidInput` for a bad page token."""
        args = {"project": request.project, "domain": request.domain, "all": False}
        found = (await self._parts.daemon.call(SecretList, "secret.list", args, token=caller().token)).secrets
        shown, token = page(found, request.limit, request.token, LIST_LIMIT)
        return pb.ListSecretsResponse(secrets=[_message(s, request.organization) for s in shown], token=token)

    async def delete_secret(self, request: pb.DeleteSecretRequest, ctx: RequestContext) -> pb.DeleteSecretResponse:
        """Delete a secret. Running apps keep the value that they were started with.

        Raise ``SecretNotFound`` if there is none.
        """
        await self._call(SecretStatus, "secret.delete", request.id)
        return pb.DeleteSecretResponse()

    async def _put(self, name: definition.SecretIdentifier, spec: definition.SecretSpec, *, replace: bool) -> None:
        text = spec.WhichOneof("value") == "string_value"
        value = spec.string_value.encode() if text else spec.binary_value
        if not value:
            raise InvalidInput("a secret must not be empty: an app could not tell it from a missing one")
        await self._call(Stored, "secret.create", name, {"replace": replace, "roll": False}, value)

    async def _call(
        self,
        kind: type[Kind],
        verb: str,
        name: definition.SecretIdentifier,
        more: dict[str, Any] | None = None,
        bulk: bytes | None = None,
    ) -> Kind:
        args = {"project": name.project, "domain": name.domain, "key": name.name, **(more or {})}
        return await self._parts.daemon.call(kind, verb, args, token=caller().token, bulk=bulk)


def _message(secret: SecretStatus, organization: str) -> definition.Secret:
    message = definition.Secret(
        id=definition.SecretIdentifier(
            organization=organization, project=secret.project, domain=secret.domain, name=secret.key
        )
    )
    metadata = message.secret_metadata
    metadata.created_time.FromSeconds(int(secret.created_at))
    metadata.type = definition.SECRET_TYPE_GENERIC
    damaged, whole = definition.PARTIALLY_PRESENT, definition.FULLY_PRESENT
    metadata.secret_status.overall_status = damaged if secret.damaged else whole
    return message
