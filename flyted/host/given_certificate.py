"""Checks a certificate and key that an operator gives, and brings them into the form in which HAProxy takes them."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from flyted.contract.errors import InvalidInput
from flyted.host.ca import fingerprint, validity

MOST_BYTES = 65536
EDWARDS = (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
MIN_RSA_BITS = 2048
MIN_CURVE_BITS = 224
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""P-256, P-384 and P-521, the curves of which TLS clients take certificates (RFC 8446 4.2.3)."""
_OTHER_KEY = (
    f"the key is neither RSA with at least {MIN_RSA_BITS} bits nor of the elliptic curves P-256, P-384 and P-521"
)
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----\n")


@dataclass(frozen=True)
class Given:
    """A certificate with its chain and key. ``repr()`` does not show the PEM.

    ``names``: the host names that it is good for. ``issuer``: who signed it, for people. ``fingerprint``: SHA-256.
    """

    pem: bytes = field(repr=False)
    names: tuple[str, ...]
    issuer: str
    begins: dt.datetime
    ends: dt.datetime
    fingerprint: str

    @property
    def chain(self) -> str:
        """The certificate and those that signed it, as PEM, without the key."""
        return "".join(_CERTIFICATE.findall(self.pem.decode()))


def given(text: bytes) -> Given:
    """Return the certificate, the chain and the key that are in a PEM text.

    The site's own certificate comes before the others of the chain; the key may be anywhere. Raises
    :class:`InvalidInput`, which says what is wrong.
    """
    if len(text) > MOST_BYTES:
        raise InvalidInput(f"certificate and key have {len(text)} bytes; the limit is {MOST_BYTES}")
    chain, key = _chain(text), _key(text)
    for each in chain:
        _check_strength(each)
    leaf = chain[0]
    if _spki(key.public_key()) != _spki(leaf.public_key()):
        if any(_spki(key.public_key()) == _spki(each.public_key()) for each in chain[1:]):
            raise InvalidInput("the first certificate is not the key's: put the server's own one first")
        raise InvalidInput("the key does not fit the certificate")
    for child, parent in itertools.pairwise(chain):
        if child.issuer != parent.subject:
            raise InvalidInput(
                f"the chain is broken: '{_common_name(child.issuer)}' signed a certificate, but '"
                f"{_common_name(parent.subject)}' follows it",
                hint="give the server's certificate, then the one that signed it, and so on (fullchain.pem)",
            )
    pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain)
    pem += key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    begins, ends = validity(pem)
    return Given(pem, _names(leaf), _common_name(leaf.issuer), begins, ends, fingerprint(pem))


def _chain(text: bytes) -> list[x509.Certificate]:
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    # cryptography reads several at once from version 39 on, and Debian 12 has 38
    blocks = [begin + each.partition(end)[0] + end + b"\n" for each in text.split(begin)[1:]]
    if not blocks:
        raise InvalidInput("there is no certificate in PEM form", hint="it begins with -----BEGIN CERTIFICATE-----")
    try:
        return [x509.load_pem_x509_certificate(block) for block in blocks]
    except ValueError as error:
        raise InvalidInput("a certificate cannot be read: it is damaged") from error


def _key(text: bytes) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    begin = text.find(b"PRIVATE KEY-----")
    if begin < 0:
        raise InvalidInput("there is no private key in PEM form", hint="it begins with -----BEGIN PRIVATE KEY-----")
    block = text[text.rfind(b"-----BEGIN", 0, begin) :]
    try:
        key = serialization.load_pem_private_key(block, password=None)
    except TypeError as error:
        raise InvalidInput(
            "the key is protected by a passphrase",
            hint="store it without one: openssl pkey -in key.pem -out plain.pem; flyted encrypts it",
        ) from error
    except ValueError as error:
        raise InvalidInput("the key cannot be read: it is damaged") from error
    except UnsupportedAlgorithm as error:
        raise InvalidInput(_OTHER_KEY) from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return key
    raise InvalidInput(_OTHER_KEY)


def _check_strength(cert: x509.Certificate) -> None:
    """Raise :class:`InvalidInput` for what OpenSSL refuses at security level 2, Debian's: HAProxy could not start.

    The signature of an authority by itself does not count. Source: SSL_CTX_set_security_level(3).
    """
    try:
        key, algorithm = cert.public_key(), cert.signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError) as error:
        raise InvalidInput("a certificate has a key or a signature of a kind that is not known") from error
    for kind, bits in ((rsa.RSAPublicKey, MIN_RSA_BITS), (ec.EllipticCurvePublicKey, MIN_CURVE_BITS)):
        if isinstance(key, kind) and key.key_size < bits:
            raise InvalidInput(f"the key of '{_common_name(cert.subject)}' has {key.key_size} bits; {bits} are needed")
    if not isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, *EDWARDS)):
        raise InvalidInput(f"the key of '{_common_name(cert.subject)}' is of a kind that TLS does not have")
    if isinstance(algorithm, (hashes.SHA1, hashes.MD5)) and cert.issuer != cert.subject:
        how = algorithm.name.upper()
        raise InvalidInput(
            f"the certificate of '{_common_name(cert.subject)}' is signed with {how}, which is not safe"
        )


def _spki(key: object) -> bytes:
    """Return a public key in the form that certificates have; keys cannot be compared before cryptography 40."""
    found: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found


def _names(cert: x509.Certificate) -> tuple[str, ...]:
    try:
        found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name.lower() for name in found.get_values_for_type(x509.DNSName))


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME) or list(name)
    return str(found[0].value) if found else "?"
