"""Handles uploads: the owner of a token gets a signed address; the PUT to this address comes without a token.

The SDK uploads with httpx, which does not know our CA. Therefore a client of this machine gets an address without TLS,
if it came by the gateway's own name; the ingress accepts that from the loopback only. Every other one gets ``https``.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import AsyncIterator
from typing import Any

from flyted.contract.errors import FlytedError, HostFailure, InvalidInput, PermissionRefused
from flyted.gateway.caller import Caller
from flyted.gateway.files.blobs import FILE_BYTES, BlobKey, Blobs
from flyted.gateway.files.signing import Signer, Ticket
from flyted.gateway.reply import Receive, Reply, plain, whole
from flyted.gateway.slots import Slots
from flyted.plan.crowd import Room

EXPIRY_S = 900
LONGEST_EXPIRY_S = 3600
AT_ONCE = Room(users=32, shared=8, of_a_user=6)


class Uploads:
    """The giver of addresses, and the receiver of the files that are sent to them."""

    def __init__(self, blobs: Blobs, signer: Signer) -> None:
        self._blobs = blobs
        self._signer = signer
        self._slots = Slots(AT_ONCE)

    def address(self, place: BlobKey, who: Caller, length: int, expires_in: int) -> tuple[str, int]:
        """Return an address for a PUT, and when it expires in seconds since 1970.

        ``length`` is the announced length in bytes (0: not announced); ``expires_in`` is the lifetime asked for in
        seconds (0: 15 minutes; an hour at most). Raise :class:`InvalidInput` for a length above the limit.
        """
        if length < 0 or length > FILE_BYTES:
            raise InvalidInput(f"an upload must be at most {FILE_BYTES >> 20} MiB long")
        expires = int(time.time()) + min(max(expires_in or EXPIRY_S, 1), LONGEST_EXPIRY_S)
        word = self._signer.sign(
            Ticket(place.project, place.domain, place.filename, place.md5, length or FILE_BYTES, expires, who.uid)
        )
        return f"{who.address}/upload/{word}", expires

    async def put(self, scope: dict[str, Any], headers: dict[str, str], reply: Reply) -> None:
        """Receive the content for one address, and answer. A content that is stored already is not stored again."""
        try:
            if scope["method"] != "PUT":
                raise InvalidInput("send the content with PUT")
            ticket = self._signer.read(scope["path"].removeprefix("/upload/"), time.time())
            place = BlobKey(ticket.project, ticket.domain, ticket.md5, ticket.filename)
            _check(headers, ticket)
            if not self._slots.free(ticket.uid):
                text = b"503: too many uploads at once\n"
                await whole(
                    reply, 503, text, {"Retry-After": "1", "Content-Type": "text/plain", "Connection": "close"}
                )
                return
            async with self._slots.slot(ticket.uid):
                if self._blobs.has(place):
                    await reply.skip(ticket.limit)
                else:
                    await self._blobs.keep(place, _chunks(reply.receive), ticket.limit, ticket.uid)
        except _Gone:
            return
        except HostFailure as error:
            await plain(reply, 507, error.message)
        except FlytedError as error:
            await plain(reply, error.http_status, error.message)
        else:
            await plain(reply, 200, "stored")


class _Gone(Exception):
    pass


def _check(headers: dict[str, str], ticket: Ticket) -> None:
    """Check the headers before a byte of the body is read.

    Raise :class:`InvalidInput` for a length above the limit, and :class:`PermissionRefused` for another content.
    """
    length = headers.get("content-length", "")
    if length and not (length.isascii() and length.isdigit() and int(length) <= ticket.limit):
        raise InvalidInput(f"an upload must be at most {ticket.limit} bytes long")
    if "content-md5" in headers:
        try:
            announced = base64.b64decode(headers["content-md5"], validate=True).hex()
        except (binascii.Error, ValueError) as error:
            raise InvalidInput("Content-MD5 is not base64") from error
        if announced != ticket.md5:
            raise PermissionRefused("this address is for other content: the MD5 differs")


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return
