"""The local certificate authority: one key per machine, good for this machine's app names and nothing else.

Name constraints (RFC 5280 4.2.1.10, critical) make a stolen key useless for any other name or address. Works with
``cryptography`` 38 (Debian 12) and later. Nothing here touches a disk: the key lives in the secret store.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from flyted.contract.errors import StoreCorrupt
from flyted.contract.names import BASE_DOMAIN, GATEWAY_HOST
from flyted.plan.ingress.config import OWN_CA

CA_LIFE = dt.timedelta(days=3650)
LEAF_LIFE = dt.timedelta(days=90)
BACKDATE = dt.timedelta(hours=1)
"""How long before it is made a certificate begins: a board without a battery-backed clock may be a little behind."""
NO_HOST = "invalid"  # a name that does not exist (RFC 2606)


@dataclass(frozen=True)
class Ca:
    """Certificate and private key as PEM. ``repr()`` does not show the key."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True)
class Leaf:
    """Certificate and key in one PEM, in this order, as HAProxy takes them; ``repr()`` does not show them."""

    pem: bytes = field(repr=False)


def new_ca(base_domain: str = BASE_DOMAIN, now: dt.datetime | None = None, *, alone: bool = False) -> Ca:
    """Make an authority for ``base_domain``, and unless ``alone`` the default base domain and the gateway's name."""
    now = now or _now()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, OWN_CA),
        x509.NameAttribute(NameOID.COMMON_NAME, f"flyted local CA {os.urandom(4).hex()}"),
    ])  # fmt: skip
    public = key.public_key()
    cert = (
        _builder(name, name, public, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_constraints(base_domain, alone=alone), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Ca(_pem(cert), _key_pem(key))


def issue_leaf(ca: Ca, base_domain: str = BASE_DOMAIN, now: dt.datetime | None = None, *, alone: bool = False) -> Leaf:
    """Issue a certificate with a new key for every app's name, and unless ``alone`` the gateway's.

    The authority's own certificate is not sent along: clients that trust it have it. A clock that is before the
    authority's begin is wrong, so the certificate then begins with the authority. Raises :class:`StoreCorrupt` as
    :func:`check`.
    """
    issuer, signer = _load(ca)
    now = max(now or _now(), validity(ca.cert_pem)[0] + BACKDATE)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName(n) for n in leaf_names(base_domain, alone=alone)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"flyted apps on {base_domain}"[:64])])
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    cert = (
        _builder(subject, issuer.subject, key.public_key(), now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
        .sign(signer, hashes.SHA256())
    )
    pem = _pem(cert)
    return Leaf(pem + _key_pem(key))


def fingerprint(cert_pem: bytes) -> str:
    """Return a certificate's SHA-256 as ``openssl x509 -fingerprint -sha256`` and browsers show it: ``AB:CD:…``."""
    return x509.load_pem_x509_certificate(cert_pem).fingerprint(hashes.SHA256()).hex(":").upper()


def leaf_names(base_domain: str = BASE_DOMAIN, *, alone: bool = False) -> tuple[str, ...]:
    """Return the names that the certificate is good for; ``alone``: without the gateway's.

    ``*.localhost`` is not one of them: every client would refuse it.
    """
    return tuple(dict.fromkeys([f"*.{base_domain}", base_domain, *([] if alone else [GATEWAY_HOST])]))


def chosen(authorities: Sequence[Ca], base_domain: str, now: float) -> Ca | None:
    """Return the authority that signs for ``base_domain`` at ``now`` (seconds since 1970); ``None`` if none may.

    Of several, it is the one that ends first: clients have trusted it for longest. So an authority that was made while
    the clock was years ahead does no harm once the clock is right again. Raises :class:`StoreCorrupt` as
    :func:`check`.
    """
    good = [each for each in authorities if usable(each, base_domain, now)]
    return min(good, key=lambda each: validity(each.cert_pem)[1], default=None)


def usable(ca: Ca, base_domain: str, now: float) -> bool:
    """Report whether this authority may sign for ``base_domain`` and outlives a certificate made at ``now``.

    ``now``: seconds since 1970. The authority's begin does not count: one of ours that has not begun yet only shows
    that the clock is wrong. Raises :class:`StoreCorrupt` as :func:`check`.
    """
    return covers(ca, base_domain) and now <= (validity(ca.cert_pem)[1] - LEAF_LIFE).timestamp()


def check(ca: Ca) -> None:
    """Raise :class:`StoreCorrupt` unless ``ca`` is a certificate and its key."""
    _load(ca)


def covers(ca: Ca, base_domain: str) -> bool:
    """Report whether this authority may sign for ``base_domain``; if not, a new one has to be made and trusted.

    Raises :class:`StoreCorrupt` as :func:`check`.
    """
    found, _key = _load(ca)
    permitted = found.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    return any(isinstance(n, x509.DNSName) and f".{base_domain}".endswith(f".{n.value}") for n in permitted)


def validity(cert_pem: bytes) -> tuple[dt.datetime, dt.datetime]:
    """Return (not before, not after), both in UTC, of the first certificate in a PEM."""
    cert = x509.load_pem_x509_certificate(cert_pem)
    if hasattr(cert, "not_valid_after_utc"):  # cryptography >= 42; the other warns there
        return cert.not_valid_before_utc, cert.not_valid_after_utc
    return cert.not_valid_before.replace(tzinfo=dt.UTC), cert.not_valid_after.replace(tzinfo=dt.UTC)


def renew_at(not_before: dt.datetime, not_after: dt.datetime) -> dt.datetime:
    """Return the moment at which two thirds of a certificate's life are over."""
    return not_before + (not_after - not_before) * 2 / 3


def _now() -> dt.datetime:
    return dt.datetime.fromtimestamp(time.time(), dt.UTC)


def _constraints(base_domain: str, *, alone: bool) -> x509.NameConstraints:
    permitted = dict.fromkeys([*([] if alone else [BASE_DOMAIN, GATEWAY_HOST]), base_domain])
    every_address = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    # RFC 5280 cannot exclude all e-mail addresses or all URIs, but once one is permitted, the others are excluded
    nobodys = [x509.RFC822Name(NO_HOST), x509.UniformResourceIdentifier(NO_HOST)]
    return x509.NameConstraints(
        permitted_subtrees=[*(x509.DNSName(name) for name in permitted), *nobodys],
        excluded_subtrees=[x509.IPAddress(network) for network in every_address],
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: dt.datetime, life: dt.timedelta
) -> x509.CertificateBuilder:
    begin = now.astimezone(dt.UTC).replace(tzinfo=None, microsecond=0) - BACKDATE
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + life)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _load(ca: Ca) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        cert = x509.load_pem_x509_certificate(ca.cert_pem)
        key = serialization.load_pem_private_key(ca.key_pem, password=None)
    except ValueError as error:
        raise StoreCorrupt("the local CA in the secret store cannot be read", hint="flytectl doctor") from error
    public = cert.public_key()
    if (
        not (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(public, ec.EllipticCurvePublicKey))
        # the numbers are compared: keys themselves cannot be before cryptography 40
        or key.public_key().public_numbers() != public.public_numbers()
    ):
        raise StoreCorrupt("the local CA's key and certificate do not match", hint="flytectl doctor")
    return cert, key


def _pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
