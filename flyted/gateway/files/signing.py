"""Signs the addresses of uploads. An address says itself what it allows, so nothing is remembered until the PUT."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from flyted.contract.errors import PermissionRefused
from flyted.gateway.files.whole import replace

KEY_BYTES = 32


@dataclass(frozen=True)
class Ticket:
    """The upload that one address allows: exactly this content, at this place, until ``expires``."""

    project: str
    domain: str
    filename: str
    md5: str  # hexadecimal
    limit: int  # bytes
    expires: int  # seconds since 1970
    uid: int = -1  # the owner of the token that it was given to


class Signer:
    """A signer by HMAC-SHA256, with a key of the gateway that is used for nothing else."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @staticmethod
    def open(path: Path) -> Signer:
        """Return the signer with the key in ``path``, so that addresses outlive a restart.

        A key that is missing or of another length is replaced. Raise OSError if it cannot be written.
        """
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            key = b""
        if len(key) != KEY_BYTES:
            key = secrets.token_bytes(KEY_BYTES)
            replace(path, key)
        return Signer(key)

    def sign(self, ticket: Ticket) -> str:
        """Return the ticket and its signature as one word for an address."""
        body = json.dumps(asdict(ticket), separators=(",", ":")).encode()
        return f"{_text(body)}.{_text(self._mac(body))}"

    def read(self, word: str, now: float) -> Ticket:
        """Return the ticket in a word of :meth:`sign`; ``now`` is in seconds since 1970.

        Raise :class:`PermissionRefused` for a word that was not signed with this key, and for a ticket that has
        expired.
        """
        try:
            body, mac = (_bytes(part) for part in word.split("."))
        except (ValueError, binascii.Error) as error:
            raise PermissionRefused("this is not an upload address") from error
        if not hmac.compare_digest(mac, self._mac(body)):
            raise PermissionRefused("this is not an upload address")
        ticket = Ticket(**json.loads(body))
        if now > ticket.expires:
            # the SDK knows these words, and says that the upload took too long
            raise PermissionRefused("Request has expired: ask for a new address")
        return ticket

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    if len(text) > 4096 or not text.isascii():
        raise ValueError("too long")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
