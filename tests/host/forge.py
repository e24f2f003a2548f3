"""Age files built by hand, part by part, so that a test can get any one part wrong. Shares no code with the codec."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MACHINE_SEED = hashlib.sha256(b"flyted test machine").digest()
OPERATOR_SEED = hashlib.sha256(b"flyted test operator").digest()
FILE_KEY = b"YELLOW SUBMARINE"
NONCE = bytes(range(16))
CHUNK = 64 * 1024


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block of output, from the standard library alone."""
    extracted = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def base64_of(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def public_of(seed: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def stanza(seed: bytes = MACHINE_SEED, file_key: bytes = FILE_KEY) -> list[bytes]:
    """The two lines of a good X25519 stanza."""
    ephemeral = X25519PrivateKey.from_private_bytes(hashlib.sha256(b"ephemeral").digest())
    share = ephemeral.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public_of(seed)))
    key = hkdf(shared, share + public_of(seed), b"age-encryption.org/v1/X25519")
    body = ChaCha20Poly1305(key).encrypt(bytes(12), file_key, None)
    return [b"-> X25519 " + base64_of(share), base64_of(body)]


def chunk(number: int, final: bool, plain: bytes) -> bytes:
    key = hkdf(FILE_KEY, NONCE, b"payload")
    return ChaCha20Poly1305(key).encrypt(number.to_bytes(11, "big") + bytes([final]), plain, None)


@dataclass
class Forged:
    """One file; ``bytes`` of it is good unless a part was replaced."""

    version: bytes = b"age-encryption.org/v1"
    lines: list[bytes] = field(default_factory=stanza)
    mac: bytes | None = None  # None: the right one
    nonce: bytes = NONCE
    payload: bytes = field(default_factory=lambda: chunk(0, True, b"value"))

    def __bytes__(self) -> bytes:
        signed = b"\n".join([self.version, *self.lines, b"---"])
        mac = self.mac
        if mac is None:
            mac = b" " + base64_of(hmac.new(hkdf(FILE_KEY, b"", b"header"), signed, hashlib.sha256).digest())
        return signed + mac + b"\n" + self.nonce + self.payload
