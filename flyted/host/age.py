"""Implements the age v1 file format, of a secret's file: X25519 recipients, binary form, whole files.

Written from the specification, https://github.com/C2SP/C2SP/blob/main/age.md; every primitive is the library's
(``cryptography`` 38 or newer). The reader is stricter than it has to be, never laxer. Left out on purpose: passphrases
(a work factor chosen by the file is a denial of service), ASCII armor, post-quantum recipients, and streaming: a value
is returned only after its last chunk has verified.

It is some 300 lines over ``cryptography``, tested with the format's public test vectors, so that ``age -d`` opens
every secret without flyted.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from flyted.contract.errors import InvalidInput, StoreCorrupt
from flyted.host import bech32

if TYPE_CHECKING:
    from collections.abc import Sequence

_VERSION = b"age-encryption.org/v1"
_X25519_INFO = b"age-encryption.org/v1/X25519"
_ARMOR = b"-----BEGIN AGE"
_FILE_KEY = 16
_NONCE = 16
_TAG = 16
_CHUNK = 64 * 1024
_COLUMNS = 64  # of a stanza's body; a shorter line ends it
_ZERO_NONCE = bytes(12)  # the wrapping key is used once

MAX_LINE = 8 * 1024
"""Bytes of one header line: the longest in use, a post-quantum stanza's, has 1.5 KiB."""
MAX_STANZAS = 64
"""Recipients of one file. A file to be read may come from anybody, so their number is bounded."""


class Failure(enum.Enum):
    """Why a file was refused, in the words of the C2SP test vectors."""

    HEADER = "header failure"
    HMAC = "HMAC failure"
    NO_MATCH = "no match"
    PAYLOAD = "payload failure"


class AgeError(StoreCorrupt):
    """A file that cannot be decrypted. The message does not name the file: the caller does."""

    def __init__(self, failure: Failure, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure


@dataclass(frozen=True, order=True)
class Recipient:
    """A public key that files are encrypted to: ``age1…``."""

    public: bytes

    @classmethod
    def parse(cls, text: str) -> Recipient:
        """Return the recipient in ``text``, or raise ``InvalidInput`` unless it is a sound X25519 recipient."""
        if text.startswith(("age1pq1", "age1tag1", "age1tagpq1")):
            raise InvalidInput("only plain X25519 recipients (age1…, 62 characters) are read by every age")
        try:
            prefix, public = bech32.decode(text)
        except ValueError as error:
            raise InvalidInput(f"not an age recipient: {error}") from None
        if prefix != "age" or len(public) != 32:
            raise InvalidInput("not an age recipient: it must begin with age1 and have 62 characters")
        if _exchange(X25519PrivateKey.generate(), public) is None:
            raise InvalidInput("a recipient of low order would encrypt to everybody")
        return cls(public)

    def __str__(self) -> str:
        return bech32.encode("age", self.public)


class Identity:
    """A private key. Only ``reveal`` shows it, and it cannot be pickled or copied by accident."""

    __slots__ = ("_key", "_raw", "recipient")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._key = X25519PrivateKey.from_private_bytes(raw)
        self.recipient = Recipient(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @classmethod
    def generate(cls) -> Identity:
        """Return a new identity, made from the library's random numbers."""
        key = X25519PrivateKey.generate()
        return cls(key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))

    @classmethod
    def parse(cls, text: str) -> Identity:
        """Return the identity in ``AGE-SECRET-KEY-1…``, or raise ``InvalidInput``, which never repeats the text."""
        try:
            prefix, raw = bech32.decode(text)
        except ValueError as error:
            raise InvalidInput(f"not an age identity: {error}") from None
        if prefix != "AGE-SECRET-KEY-" or len(raw) != 32:
            raise InvalidInput("not an age identity: it must begin with AGE-SECRET-KEY-1 and have 74 characters")
        return cls(raw)

    def reveal(self) -> str:
        """Return the identity as the ``age`` program reads it.

        Anybody with this text can read every secret.
        """
        return bech32.encode("age-secret-key-", self._raw).upper()

    def derive(self, info: bytes) -> bytes:
        """Return 32 bytes that only the holder of this identity can compute; ``info`` names their one use."""
        return _hkdf(self._raw, b"", info)

    def shared_with(self, public: bytes) -> bytes | None:
        """Return the X25519 secret shared with a public key, ``None`` for one of low order (RFC 7748 section 6.1)."""
        return _exchange(self._key, public)

    def __repr__(self) -> str:
        return f"Identity({self.recipient})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an identity must not leave its process")


def encrypt(plaintext: bytes, recipients: Sequence[Recipient]) -> bytes:
    """Return an age file that each of ``recipients`` can open, with flyted or with the ``age`` program.

    Raises ``InvalidInput`` for a recipient of low order, and unless there are 1 to ``MAX_STANZAS`` recipients.
    """
    if not 1 <= len(recipients) <= MAX_STANZAS:
        raise InvalidInput(f"a file is encrypted to 1 to {MAX_STANZAS} recipients, not {len(recipients)}")
    file_key = os.urandom(_FILE_KEY)
    header = b"\n".join([_VERSION, *(_wrapped(file_key, r) for r in recipients), b"---"])
    nonce = os.urandom(_NONCE)
    sealed = _seal_stream(_hkdf(file_key, nonce, b"payload"), plaintext)
    return b"".join([header, b" ", _to_base64(_header_mac(file_key, header)), b"\n", nonce, *sealed])


def decrypt(data: bytes, identity: Identity) -> bytes:
    """Return the whole plaintext of an age file.

    Raises ``AgeError`` and nothing else, whatever ``data`` is.
    """
    header = _parse_header(data)
    file_key = _unwrapped(header.stanzas, identity)
    if not hmac.compare_digest(_header_mac(file_key, header.signed), header.mac):
        raise AgeError(Failure.HMAC, "its header was changed")
    nonce = data[header.end : header.end + _NONCE]
    if len(nonce) != _NONCE:
        raise AgeError(Failure.HEADER, "it is cut off after the header")
    return _open_stream(_hkdf(file_key, nonce, b"payload"), data[header.end + _NONCE :])


@dataclass(frozen=True)
class _Stanza:
    kind: bytes
    arguments: tuple[bytes, ...]
    body: bytes


@dataclass(frozen=True)
class _Header:
    stanzas: tuple[_Stanza, ...]
    signed: bytes
    mac: bytes
    end: int  # offset of the payload


class _Lines:
    """The header's lines, taken one by one; ``at`` is the offset of the next one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self) -> bytes:
        end = self._data.find(b"\n", self.at, self.at + MAX_LINE + 1)
        if end < 0:
            raise AgeError(Failure.HEADER, "its header is cut off, or a line of it is too long")
        line = self._data[self.at : end]
        self.at = end + 1
        return line


def _parse_header(data: bytes) -> _Header:
    if data.startswith(_ARMOR):
        raise AgeError(Failure.HEADER, "it is ASCII-armored; only the binary form is read")
    lines, stanzas = _Lines(data), []
    if lines.take() != _VERSION:
        raise AgeError(Failure.HEADER, "it is not an age v1 file")
    while True:
        start = lines.at
        line = lines.take()
        if line.startswith(b"---"):
            break
        stanzas.append(_parse_stanza(line, lines))
        if len(stanzas) > MAX_STANZAS:
            raise AgeError(Failure.HEADER, f"it has more than {MAX_STANZAS} recipients")
    mac = _from_base64(line[4:]) if line.startswith(b"--- ") else b""
    if not stanzas or len(mac) != 32:
        raise AgeError(Failure.HEADER, "its header does not end correctly")
    return _Header(tuple(stanzas), data[: start + 3], mac, lines.at)


def _parse_stanza(first: bytes, lines: _Lines) -> _Stanza:
    words = first.split(b" ")
    if words[0] != b"->" or len(words) < 2 or not all(w and all(33 <= c <= 126 for c in w) for w in words):
        raise AgeError(Failure.HEADER, "a line of its header is malformed")
    body: list[bytes] = []
    while True:
        line = lines.take()
        if len(line) > _COLUMNS or len(body) > MAX_LINE // _COLUMNS:
            raise AgeError(Failure.HEADER, "a stanza of its header is too long")
        body.append(line)
        if len(line) < _COLUMNS:
            return _Stanza(words[1], tuple(words[2:]), _from_base64(b"".join(body)))


def _wrapped(file_key: bytes, recipient: Recipient) -> bytes:
    ephemeral = X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    shared = _exchange(ephemeral, recipient.public)
    if shared is None:
        raise InvalidInput("a recipient of low order would encrypt to everybody")
    key = _hkdf(shared, share + recipient.public, _X25519_INFO)
    body = ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, file_key, None)
    return b"-> X25519 " + _to_base64(share) + b"\n" + _to_base64(body)


def _unwrapped(stanzas: tuple[_Stanza, ...], identity: Identity) -> bytes:
    if len(stanzas) > 1 and any(s.kind == b"scrypt" for s in stanzas):
        raise AgeError(Failure.HEADER, "a passphrase is combined with other recipients")
    ours = [_checked_share(s) for s in stanzas if s.kind == b"X25519"]
    for share, body in ours:
        shared = identity.shared_with(share)
        if shared is None:
            raise AgeError(Failure.HEADER, "a share of its header has low order")
        key = _hkdf(shared, share + identity.recipient.public, _X25519_INFO)
        try:
            return ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, body, None)
        except InvalidTag:
            continue
    raise AgeError(Failure.NO_MATCH, "it is not encrypted to this identity")


def _checked_share(stanza: _Stanza) -> tuple[bytes, bytes]:
    # The length is checked before any decryption: a longer file key would let one file have several plaintexts.
    if len(stanza.arguments) != 1 or len(stanza.body) != _FILE_KEY + _TAG:
        raise AgeError(Failure.HEADER, "an X25519 stanza of its header is malformed")
    share = _from_base64(stanza.arguments[0])
    if len(share) != 32:
        raise AgeError(Failure.HEADER, "an X25519 share of its header has the wrong length")
    return share, stanza.body


def _seal_stream(key: bytes, plaintext: bytes) -> list[bytes]:
    aead, last = ChaCha20Poly1305(key), max(0, (len(plaintext) - 1) // _CHUNK)
    chunks = (plaintext[i * _CHUNK : (i + 1) * _CHUNK] for i in range(last + 1))
    return [aead.encrypt(_chunk_nonce(i, i == last), chunk, None) for i, chunk in enumerate(chunks)]


def _open_stream(key: bytes, sealed: bytes) -> bytes:
    aead, size, plain = ChaCha20Poly1305(key), _CHUNK + _TAG, []
    last = max(0, (len(sealed) - 1) // size)
    for i in range(last + 1):
        chunk = sealed[i * size : (i + 1) * size]
        try:
            plain.append(aead.decrypt(_chunk_nonce(i, i == last), chunk, None))
        except (InvalidTag, ValueError):
            raise AgeError(Failure.PAYLOAD, "its payload was changed or cut off") from None
    if last and not plain[-1]:
        raise AgeError(Failure.PAYLOAD, "its last chunk is empty")
    return b"".join(plain)


def _chunk_nonce(number: int, final: bool) -> bytes:  # noqa: FBT001 - the format's own flag
    return number.to_bytes(11, "big") + bytes([final])


def _header_mac(file_key: bytes, signed: bytes) -> bytes:
    return hmac.new(_hkdf(file_key, b"", b"header"), signed, hashlib.sha256).digest()


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret)


def _exchange(key: X25519PrivateKey, public: bytes) -> bytes | None:
    try:
        shared = key.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:  # newer libraries refuse an all-zero result themselves
        return None
    return shared if any(shared) else None


def _to_base64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _from_base64(text: bytes) -> bytes:
    """Decode base64 that is canonical and unpadded; if a value had two spellings, a header could be changed.

    Raises ``AgeError`` for any other text.
    """
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        data = b""
    if _to_base64(data) != text:
        raise AgeError(Failure.HEADER, "base64 in its header is not canonical")
    return data
