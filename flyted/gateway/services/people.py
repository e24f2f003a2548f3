"""IdentityService: says who the token's owner is. AuthMetadataService: says what to use, as there is no OAuth here."""

from __future__ import annotations

from typing import NoReturn

from connectrpc.request import RequestContext
from flyteidl2.auth import auth_service_pb2 as auth
from flyteidl2.auth import identity_pb2 as pb
from flyteidl2.auth.auth_service_connect import AuthMetadataService
from flyteidl2.auth.identity_connect import IdentityService

from flyted.contract.errors import Unsupported
from flyted.gateway.caller import caller
from flyted.gateway.parts import Parts


class Identity(IdentityService):
    """The handler of IdentityService, for `flyte whoami`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def user_info(self, request: pb.UserInfoRequest, ctx: RequestContext) -> pb.UserInfoResponse:
        """Return the account on this machine for which the token was made."""
        who = caller()
        return pb.UserInfoResponse(subject=who.user, name=who.user, preferred_username=who.user)


class Metadata(AuthMetadataService):
    """The handlers of AuthMetadataService, which refuse a client that is set to log in with a browser.

    An answer would send such a client to pages that do not exist.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def get_o_auth2_metadata(
        self, request: auth.GetOAuth2MetadataRequest, ctx: RequestContext
    ) -> auth.GetOAuth2MetadataResponse:
        """Raise :class:`Unsupported`, with a hint on what to set instead."""
        _refuse()

    async def get_public_client_config(
        self, request: auth.GetPublicClientConfigRequest, ctx: RequestContext
    ) -> auth.GetPublicClientConfigResponse:
        """Raise :class:`Unsupported`, with a hint on what to set instead."""
        _refuse()


def _refuse() -> NoReturn:
    raise Unsupported(
        "flyted has no browser login for the flyte command",
        hint='set admin.authType: ExternalCommand and admin.command: ["flytectl", "token"]; flytectl config init does',
    )
