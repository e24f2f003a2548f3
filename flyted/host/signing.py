"""Makes the keys of ACME accounts and certificates, and signing requests (RFC 2986), with ``cryptography``."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flyted.contract.errors import StoreCorrupt


@dataclass(frozen=True)
class Request:
    """A new key and the request for its certificate, as PEM. ``repr()`` does not show the key."""

    key: bytes = field(repr=False)
    request: bytes


def new_request(name: str) -> Request:
    """Make a key, and request a certificate for one DNS name, which is not in the subject: that has 64 characters."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Request(_pem(key, serialization.PrivateFormat.PKCS8), request.public_bytes(serialization.Encoding.PEM))


def new_account() -> bytes:
    """Make the key of an account, as PEM in the form of SEC 1."""
    return _pem(ec.generate_private_key(ec.SECP256R1()), serialization.PrivateFormat.TraditionalOpenSSL)


def thumbprint(account: bytes) -> str:
    """Return the thumbprint of an account's key (RFC 7638), by which a challenge is answered (RFC 8555 8.1).

    Raises :class:`StoreCorrupt` for what is no such key.
    """
    try:
        key = serialization.load_pem_private_key(account, password=None)
    except ValueError as error:
        raise StoreCorrupt("the key of the ACME account in the secret store cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise StoreCorrupt("the key of the ACME account in the secret store is not one of flyted's")
    numbers = key.public_key().public_numbers()
    jwk = {"crv": "P-256", "kty": "EC", "x": _base64(numbers.x), "y": _base64(numbers.y)}
    return _url_safe(hashlib.sha256(json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()).digest())


def _pem(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _base64(number: int) -> str:
    return _url_safe(number.to_bytes(32, "big"))


def _url_safe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
