"""IdentityService: who the token's owner is. AuthMetadataService: that there is no OAuth here, and what there is."""

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
    """`flyte whoami`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def user_info(self, request: pb.UserInfoRequest, ctx: RequestContext) -> pb.UserInfoResponse:
        """The account on this machine for which the token was made."""
        who = caller()
        return pb.UserInfoResponse(subject=who.user, name=who.user, preferred_username=who.user)


class Metadata(AuthMetadataService):
    """Asked by a client that is set to log in with a browser: an answer would send it to pages that are not there."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def get_o_auth2_metadata(
        self, request: auth.GetOAuth2MetadataRequest, ctx: RequestContext
    ) -> auth.GetOAuth2MetadataResponse:
        """Says what to set instead."""
        _refuse()

    async def get_public_client_config(
        self, request: auth.GetPublicClientConfigRequest, ctx: RequestContext
    ) -> auth.GetPublicClientConfigResponse:
        """Says what to set instead."""
        _refuse()


def _refuse() -> NoReturn:
    raise Unsupported(
        "flyted has no browser login for the flyte command",
        hint='set admin.authType: ExternalCommand and admin.command: ["flytectl", "token"]; flytectl config init does',
    )
