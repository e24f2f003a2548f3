"""The local CA: good for this machine's names, refused by OpenSSL for anything else."""

from __future__ import annotations

import datetime as dt
import ipaddress
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flyted.contract.errors import StoreCorrupt
from flyted.host.ca import (
    LEAF_LIFE,
    Ca,
    chosen,
    covers,
    fingerprint,
    issue_leaf,
    leaf_names,
    new_ca,
    renew_at,
    usable,
    validity,
)

NOW = dt.datetime.now(dt.UTC)
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def authority() -> Ca:
    return new_ca(now=NOW)


def verify(folder: Path, ca_pem: bytes, leaf_pem: bytes, *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "ca.pem").write_bytes(ca_pem)
    (folder / "leaf.pem").write_bytes(leaf_pem)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", *more, "-CAfile", "ca.pem", "leaf.pem"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def forged(
    authority: Ca, names: list[x509.GeneralName], common_name: str = "x", *, ca: bool = False
) -> tuple[bytes, bytes]:
    """What a thief of the CA's key could sign: (certificate, key)."""
    issuer = x509.load_pem_x509_certificate(authority.cert_pem)
    signer = serialization.load_pem_private_key(authority.key_pem, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW.replace(tzinfo=None) - dt.timedelta(hours=1))
        .not_valid_after(NOW.replace(tzinfo=None) + dt.timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if ca:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    cert = builder.sign(signer, hashes.SHA256())
    raw = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return cert.public_bytes(serialization.Encoding.PEM), raw


@needs_openssl
@pytest.mark.parametrize("name", ["a.apps.localhost", "my-app-1a2b3c4d.apps.localhost", "flyted.localhost"])
def test_our_certificate_is_good_for_our_names(authority, tmp_path, name):
    """OpenSSL in its strict mode, with the host name checked, accepts each name of the certificate."""
    done = verify(tmp_path, authority.cert_pem, issue_leaf(authority).pem, "-verify_hostname", name)
    assert done.returncode == 0, done.stderr


@needs_openssl
@pytest.mark.parametrize("name", ["a.b.apps.localhost", "localhost", "a.localhost", "example.com"])
def test_our_certificate_is_not_good_for_others(authority, tmp_path, name):
    """A wildcard is one label deep, and only below the base domain."""
    done = verify(tmp_path, authority.cert_pem, issue_leaf(authority).pem, "-verify_hostname", name)
    assert done.returncode != 0
    assert "ostname mismatch" in done.stdout + done.stderr


@needs_openssl
@pytest.mark.parametrize(
    ("names", "common_name"),
    [
        ([x509.DNSName("example.com")], "x"),
        ([x509.DNSName("a.apps.localhost"), x509.DNSName("bank.example")], "x"),
        ([x509.DNSName("xapps.localhost")], "x"),
        ([x509.DNSName("apps.localhost.evil.example")], "x"),
        ([x509.DNSName("localhost")], "x"),
        ([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))], "x"),
        ([x509.IPAddress(ipaddress.ip_address("93.184.216.34"))], "x"),
        ([x509.IPAddress(ipaddress.ip_address("::1"))], "x"),
        ([x509.RFC822Name("root@example.com")], "x"),
        ([x509.RFC822Name("root@apps.localhost")], "x"),
        ([x509.UniformResourceIdentifier("https://example.com/")], "x"),
        ([x509.UniformResourceIdentifier("spiffe://apps.localhost/x")], "x"),
        ([], "bank.example"),  # no SAN: OpenSSL takes the common name for a host name
    ],
)
def test_a_stolen_key_signs_nothing_for_other_names(authority, tmp_path, names, common_name):
    """Name constraints hold for what else the key could sign: other hosts, addresses, a bare common name."""
    cert, _key = forged(authority, names, common_name)
    done = verify(tmp_path, authority.cert_pem, cert)
    assert done.returncode != 0
    assert "subtree violation" in done.stdout + done.stderr


@needs_openssl
@pytest.mark.parametrize("purpose", ["sslclient", "smimesign", "smimeencrypt", "timestampsign"])
def test_a_stolen_key_signs_for_servers_only(authority, tmp_path, purpose):
    """Its own extended key usage bounds what is below it: no client, no mail, no time stamp."""
    cert, _key = forged(authority, [x509.DNSName("a.apps.localhost")])
    assert verify(tmp_path, authority.cert_pem, cert).returncode == 0
    done = verify(tmp_path, authority.cert_pem, cert, "-purpose", purpose)
    assert done.returncode != 0
    assert "purpose" in done.stdout + done.stderr


@needs_openssl
def test_a_stolen_key_makes_no_further_authority(authority, tmp_path):
    """pathlen:0: a certificate below an intermediate of the CA is refused."""
    middle, middle_key = forged(authority, [], "middle.apps.localhost", ca=True)
    leaf, _key = forged(Ca(middle, middle_key), [x509.DNSName("a.apps.localhost")])
    (tmp_path / "middle.pem").write_bytes(middle)
    done = verify(tmp_path, authority.cert_pem, leaf, "-untrusted", "middle.pem")
    assert done.returncode != 0
    assert "path length constraint exceeded" in done.stdout + done.stderr


@needs_openssl
def test_the_fingerprint_is_the_one_that_openssl_shows(authority, tmp_path):
    """What a user compares by eye."""
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem)
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", "ca.pem"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout.strip().endswith("=" + fingerprint(authority.cert_pem))


def test_the_extensions_are_what_the_rule_says(authority):
    """P-256; CA: critical CA:TRUE pathlen:0, critical keyCertSign, critical name constraints. Leaf: server only."""
    ca = x509.load_pem_x509_certificate(authority.cert_pem)
    key = ca.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    critical = {type(e.value) for e in ca.extensions if e.critical}
    assert critical == {x509.BasicConstraints, x509.KeyUsage, x509.NameConstraints}
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (basic.ca, basic.path_length) == (True, 0)
    leaf = x509.load_pem_x509_certificate(issue_leaf(authority).pem)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == list(leaf_names())
    assert set(leaf_names()) == {"*.apps.localhost", "apps.localhost", "flyted.localhost"}


def test_each_authority_and_each_certificate_has_keys_of_its_own(authority):
    """No key is used twice, and two machines' authorities can be told apart by name."""
    other = new_ca()
    assert other.key_pem != authority.key_pem
    subjects = {x509.load_pem_x509_certificate(c.cert_pem).subject.rfc4514_string() for c in (other, authority)}
    assert len(subjects) == 2
    assert issue_leaf(authority).pem != issue_leaf(authority).pem


def test_another_base_domain_is_signed_for_and_the_usual_ones_too(tmp_path):
    """A custom base domain needs an authority that may sign for it; the gateway's name is always covered."""
    custom = new_ca("box.example.org")
    for domain, good in (("box.example.org", True), ("apps.localhost", True), ("x.box.example.org", True)):
        assert covers(custom, domain) is good
    for domain in ("example.org", "evilbox.example.org", "org"):
        assert not covers(custom, domain)
    assert not covers(new_ca(), "box.example.org")
    if shutil.which("openssl"):
        leaf = issue_leaf(custom, "box.example.org")
        assert verify(tmp_path, custom.cert_pem, leaf.pem, "-verify_hostname", "a.box.example.org").returncode == 0


def test_a_certificate_lives_ninety_days_and_is_renewed_after_two_thirds(authority):
    """Renewal is due at 60 days."""
    leaf = issue_leaf(authority, now=NOW)
    begin, end = validity(leaf.pem)
    assert end - begin == LEAF_LIFE <= dt.timedelta(days=90)
    assert begin < NOW, "a clock that is a little behind accepts it"
    assert renew_at(begin, end) == begin + dt.timedelta(days=60)


def test_an_authority_is_used_while_it_outlives_what_it_signs(authority):
    """Near its own end, or for another domain, a new one has to be made; never since its begin is still to come."""
    now = NOW.timestamp()
    assert usable(authority, "apps.localhost", now)
    assert not usable(authority, "other.example", now)
    assert not usable(authority, "apps.localhost", now + 3600 * 86400)
    assert usable(authority, "apps.localhost", now - 5000 * 86400)


def test_a_clock_that_was_ahead_leaves_the_authority_that_clients_trust(authority):
    """Ten years ahead another one is made; the first one signs again when the clock is right."""
    ahead = NOW + dt.timedelta(days=3600)
    other = new_ca(now=ahead)
    both: list[Ca] = [authority, other]
    assert chosen(both, "apps.localhost", ahead.timestamp()) is other
    assert chosen(both, "apps.localhost", NOW.timestamp()) is authority
    assert chosen(both, "apps.localhost", NOW.timestamp() - 5000 * 86400) is authority
    assert chosen(both, "other.example", NOW.timestamp()) is None
    assert chosen([], "apps.localhost", NOW.timestamp()) is None


def test_a_clock_that_is_behind_makes_certificates_of_the_authoritys_time(authority):
    """The clock that says that the authority has not begun is wrong: with the right one the certificate is good."""
    begin, _end = validity(issue_leaf(authority, now=NOW - dt.timedelta(days=700)).pem)
    assert begin == validity(authority.cert_pem)[0]


@pytest.mark.parametrize("broken", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_broken_authority_is_refused_with_a_message(authority, broken):
    """What the store gives back is checked; key and certificate must belong together."""
    for bad in (
        Ca(broken, authority.key_pem),
        Ca(authority.cert_pem, broken),
        Ca(new_ca().cert_pem, authority.key_pem),
    ):
        with pytest.raises(StoreCorrupt):
            issue_leaf(bad)


def test_no_key_is_shown_by_repr(authority):
    """A value in a log line or a traceback shows no key."""
    assert "PRIVATE" not in repr(authority) + repr(issue_leaf(authority))


def test_python_trusts_it_in_strict_mode(authority, tmp_path):
    """What HAProxy is given is loaded by OpenSSL as it is: certificate first, then the key that belongs to it."""
    site = tmp_path / "site.pem"
    site.write_bytes(issue_leaf(authority).pem)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(site)
    assert site.read_bytes().index(b"BEGIN CERTIFICATE") < site.read_bytes().index(b"BEGIN PRIVATE KEY")
