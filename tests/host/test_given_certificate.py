"""Certificates and keys that operators give: every form that authorities deliver, and what is wrong with others."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from flyted.contract.errors import InvalidInput
from flyted.host.given_certificate import MOST_BYTES, given

NOW = dt.datetime(2026, 11, 29)  # noqa: DTZ001  as the builder wants it
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()
SHA256 = hashes.SHA256()


@dataclass
class Pair:
    """A certificate and its key."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def cert_pem(self) -> bytes:
        """The certificate alone."""
        return self.cert.public_bytes(PEM)

    @property
    def key_pem(self) -> bytes:
        """The key alone."""
        return self.key.private_bytes(PEM, PKCS8, PLAIN)


def made(
    name: str,
    by: Pair | None = None,
    *,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
) -> Pair:
    """A certificate for ``*.name``, signed by another one or by itself."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.cert.subject if by else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"*.{name}"), x509.DNSName(name)]), critical=False)
        .sign((by or Pair(None, own)).key, SHA256)  # type: ignore[arg-type]
    )
    return Pair(cert, own)


@pytest.fixture(scope="module")
def chain() -> tuple[Pair, Pair, Pair]:
    """A root, an authority below it, and a site's certificate."""
    root = made("root")
    middle = made("middle", root)
    return root, middle, made("apps.example.org", middle)


def test_a_full_chain_with_its_key(chain: tuple[Pair, Pair, Pair]) -> None:
    """Whichever comes first, and with words of the authority between them."""
    _, middle, site = chain
    text = site.cert_pem + b"\nsubject=CN = words\n\n" + middle.cert_pem
    for whole in (text + site.key_pem, site.key_pem + text):
        found = given(whole)
        assert found.names == ("*.apps.example.org", "apps.example.org")
        assert found.issuer == "middle"
        assert found.ends.timestamp() == (NOW + dt.timedelta(days=90)).replace(tzinfo=dt.UTC).timestamp()
        assert found.pem.index(site.cert_pem) < found.pem.index(middle.cert_pem) < found.pem.index(b"PRIVATE")
        assert b"words" not in found.pem
        assert given(found.pem) == found
        assert "PRIVATE" not in repr(found)


@pytest.mark.parametrize("format_", [PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
def test_rsa_and_old_forms_of_keys(format_: serialization.PrivateFormat) -> None:
    """As openssl wrote them for decades."""
    site = made("a.b", key=rsa.generate_private_key(65537, 2048))
    assert given(site.cert_pem + site.key.private_bytes(PEM, format_, PLAIN)).names[0] == "*.a.b"


def test_what_is_wrong_is_said(chain: tuple[Pair, Pair, Pair]) -> None:
    """And nothing of a key is in the words."""
    root, middle, site = chain
    sealed = site.key.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"word"))
    weak = made("a.b", key=rsa.generate_private_key(65537, 1024))
    below = made("c.b", weak)
    old = (
        Path(__file__).with_name("sha1.pem").read_bytes()
    )  # by openssl x509 -sha1: cryptography signs with it no more
    other = ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, PLAIN)
    dsas = dsa.generate_private_key(2048)
    curves = [made("a.b", key=ec.generate_private_key(each())) for each in (ec.SECP192R1, ec.SECP224R1, ec.SECP256K1)]
    by_weak = made("d.b", curves[0])
    by_dsa = made("e.b", made("old", key=dsas))  # type: ignore[arg-type]
    for text, said in (
        *((each.cert_pem + each.key_pem, "P-256") for each in curves),
        (by_weak.cert_pem + curves[0].cert_pem + by_weak.key_pem, "has 192 bits"),
        (by_dsa.cert_pem + made("old", key=dsas).cert_pem + by_dsa.key_pem, "a kind that TLS does not have"),  # type: ignore[arg-type]
        (b"", "no certificate"),
        (site.key_pem, "no certificate"),
        (site.cert_pem, "no private key"),
        (site.cert_pem + middle.key_pem, "does not fit"),
        (middle.cert_pem + site.cert_pem + site.key_pem, "put the server's own one first"),
        (site.cert_pem + root.cert_pem + site.key_pem, "the chain is broken: 'middle' signed"),
        (site.cert_pem + sealed, "passphrase"),
        (site.cert_pem[:200] + site.key_pem, "damaged"),
        (site.cert_pem + site.key_pem.replace(b"a", b"b"), "damaged"),
        (weak.cert_pem + weak.key_pem, "2048 bits"),
        (site.cert_pem + other, "elliptic curve"),
        (site.cert_pem.replace(b"\n", b"x" * 40 + b"\n") + site.key_pem, "damaged"),
        (old, "signed with SHA1"),
        (below.cert_pem + weak.cert_pem + below.key_pem, "has 1024 bits"),
        (b"x" * (MOST_BYTES + 1), "the limit is"),
        (bytes(range(256)), "no certificate"),
    ):
        with pytest.raises(InvalidInput) as error:
            given(text)
        assert said in error.value.message
        assert "PRIVATE" not in f"{error.value.message}{error.value.hint}".replace("-----BEGIN PRIVATE KEY-----", "")
