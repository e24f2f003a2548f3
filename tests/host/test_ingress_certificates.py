"""Certificates of other base domains, in a HAProxy that runs and in one that starts anew."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flyted.contract.errors import HostFailure
from flyted.host.ca import Ca, issue_leaf, new_ca, validity
from flyted.host.haproxy import Haproxy
from flyted.plan.ingress import config
from flyted.plan.ingress.certificates import LIST, Certificate
from flyted.plan.ingress.state import IngressState
from tests.host.haproxy import A, Machine, apply, exchange, machine, needs_haproxy, one, parsed

pytestmark = [pytest.mark.slow, needs_haproxy]

HOUSE, WORK = "apps.box.lan", "apps.example.org"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Machine]:
    """An ingress with one app."""
    with machine(tmp_path) as made:
        made.app("a-r1-0")
        apply(made, one(made))
        yield made


class Domain:
    """A base domain with an authority of its own."""

    def __init__(self, name: str) -> None:
        """Make the authority."""
        self.name, self.ca = name, new_ca(name)

    def certificate(self) -> Certificate:
        """A new certificate for all its apps."""
        return Certificate(self.name, (f"*.{self.name}", self.name), issue_leaf(self.ca, self.name).pem)


def shown(box: Machine, host: str, ca: Ca) -> str:
    """The serial number of the certificate that a client sees who trusts one authority alone."""
    context = ssl.create_default_context(cadata=ca.cert_pem.decode())
    plain = socket.create_connection(("127.0.0.1", box.listen.https_port), 10)
    with context.wrap_socket(plain, server_hostname=host) as connection:
        found = connection.getpeercert()
        assert found is not None
        return str(found["serialNumber"])


def give(box: Machine, *certificates: Certificate) -> None:
    """Have the ingress serve these."""
    box.certificates[:] = certificates
    asyncio.run(box.ingress.apply_certificates())


def test_each_domain_has_its_own_certificate(box: Machine) -> None:
    """While HAProxy runs, as well as after its next start; every other name gets the machine's own."""
    house, work = Domain(HOUSE), Domain(WORK)
    give(box, house.certificate(), work.certificate())
    for _ in range(2):
        shown(box, f"a.{HOUSE}", house.ca)
        shown(box, WORK, work.ca)
        shown(box, A, box.ca)
        with pytest.raises(ssl.SSLCertVerificationError):
            shown(box, f"a.{HOUSE}", work.ca)
        with pytest.raises(ssl.SSLCertVerificationError):
            shown(box, f"a.b.{HOUSE}", house.ca)
        box.stop()
        box.start()


def test_a_certificate_is_replaced_and_removed(box: Machine) -> None:
    """A connection that exists goes on with the old one."""
    house = Domain(HOUSE)
    give(box, house.certificate())
    before = shown(box, f"a.{HOUSE}", house.ca)
    plain = socket.create_connection(("127.0.0.1", box.listen.https_port), 10)
    context = ssl.create_default_context(cadata=house.ca.cert_pem.decode())
    with context.wrap_socket(plain, server_hostname=f"a.{HOUSE}") as connection:
        give(box, house.certificate())
        assert shown(box, f"a.{HOUSE}", house.ca) != before
        give(box)
        with pytest.raises(ssl.SSLCertVerificationError):
            shown(box, f"a.{HOUSE}", house.ca)
        answer = exchange(connection, f"GET / HTTP/1.1\r\nHost: {A}\r\nConnection: close\r\n\r\n".encode())
        assert parsed(answer)[0] == 200
    assert list(Path(box.places.site_folder).iterdir()) == []
    give(box, house.certificate())
    shown(box, f"a.{HOUSE}", house.ca)


def test_the_same_again_changes_nothing(box: Machine) -> None:
    """As after the daemon's start: a second entry in the list would stay when the first one is removed."""
    house = Domain(HOUSE)
    certificate = house.certificate()
    for _ in range(3):
        give(box, certificate)
    give(box)
    with pytest.raises(ssl.SSLCertVerificationError):
        shown(box, f"a.{HOUSE}", house.ca)


def test_a_certificate_that_haproxy_refuses(box: Machine) -> None:
    """The one before stays, and so do those of the others."""
    house, work = Domain(HOUSE), Domain(WORK)
    give(box, house.certificate(), work.certificate())
    broken = Certificate(HOUSE, (HOUSE,), issue_leaf(house.ca, HOUSE).pem.split(b"-----BEGIN PRIVATE")[0])
    other = Domain("apps.other.org").certificate()
    with pytest.raises(HostFailure, match="HAProxy refused the new certificate"):
        give(box, broken, other)
    box.stop()
    box.start()  # what it refused is not what it reads
    shown(box, f"a.{HOUSE}", house.ca)
    shown(box, f"a.{WORK}", work.ca)
    give(box, house.certificate(), work.certificate(), other)
    shown(box, f"a.{HOUSE}", house.ca)


def test_only_the_ingress_may_read_keys(box: Machine) -> None:
    """The list is public, and has no more than names."""
    give(box, Domain(HOUSE).certificate())
    (file,) = Path(box.places.site_folder).iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in (box.files / LIST).read_text()


def test_no_request_is_lost_while_certificates_change(box: Machine) -> None:
    """New connections all the time, and a certificate of their domain that is replaced fifty times."""
    house = Domain(HOUSE)
    state = IngressState(servers=one(box).servers, hosts=one(box).hosts, domains={HOUSE: "apps.localhost"})
    apply(box, state)
    give(box, house.certificate())
    context = ssl.create_default_context(cadata=house.ca.cert_pem.decode())
    lost: list[str] = []
    done = threading.Event()

    def ask() -> None:
        request = f"GET / HTTP/1.1\r\nHost: a.{HOUSE}\r\nConnection: close\r\n\r\n".encode()
        while not done.is_set():
            try:
                plain = socket.create_connection(("127.0.0.1", box.listen.https_port), 10)
                with context.wrap_socket(plain, server_hostname=f"a.{HOUSE}") as connection:
                    status = parsed(exchange(connection, request))[0]
                asked.append(status)
                if status != 200:
                    lost.append(str(status))
            except OSError as error:
                lost.append(repr(error))

    asked: list[int] = []
    clients = [threading.Thread(target=ask) for _ in range(2)]
    for each in clients:
        each.start()
    for _ in range(50):
        give(box, house.certificate())
    done.set()
    for each in clients:
        each.join()
    assert lost == []
    assert len(asked) > 50


def test_a_certificate_for_exactly_a_name_wins(box: Machine) -> None:
    """Over one with ``*``, in whichever order they come."""
    house, app = Domain(HOUSE), Domain(f"a.{HOUSE}")
    own = Certificate(f"a.{HOUSE}", (f"a.{HOUSE}",), app.certificate().pem)
    for order in ((own, house.certificate()), (house.certificate(), own)):
        give(box, *order)
        shown(box, f"a.{HOUSE}", app.ca)
        shown(box, f"b.{HOUSE}", house.ca)


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ports of these tests count as 443 and 80."""
    monkeypatch.setattr(config, "USUAL_PORTS", ANY)


def test_at_other_ports_plain_http_is_not_forbidden(box: Machine) -> None:
    """A client would ask the port for HTTP in TLS."""
    office = Domain(WORK)
    office.ca = foreign(office.ca)
    give(box, office.certificate())
    apply(box, replace(one(box), domains={WORK: "apps.localhost"}))
    assert "strict-transport-security" not in head_of(box, f"a.{WORK}", office.ca)


def test_only_a_certificate_of_another_authority_forbids_plain_http(usual: None, box: Machine) -> None:
    """Strict-Transport-Security is for names whose clients trust an authority elsewhere; an app's own header stays."""
    house, office = Domain(HOUSE), Domain(WORK)
    office.ca = foreign(office.ca)
    give(box, house.certificate(), office.certificate())
    apply(box, replace(one(box), domains={HOUSE: "apps.localhost", WORK: "apps.localhost"}))
    for host, ca, strict in (
        (A, box.ca, False), (f"a.{HOUSE}", house.ca, False), (f"a.{WORK}", office.ca, True),
        (f"nobody.{WORK}", office.ca, True),
    ):  # fmt: skip
        assert ("strict-transport-security: max-age=15552000" in head_of(box, host, ca)) is strict, host
    app = next(each for each in box._apps if each.name == "a-r1-0")
    app.answers[b"/own"] = b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=5\r\nContent-Length: 0\r\n\r\n"
    head = head_of(box, f"a.{WORK}", office.ca, "/own")
    assert head.count("strict-transport-security") == 1
    assert "max-age=5" in head


def head_of(box: Machine, host: str, ca: Ca, path: str = "/") -> str:
    """The head of an answer, in lower case, to a client that trusts one authority alone."""
    context = ssl.create_default_context(cadata=ca.cert_pem.decode())
    plain = socket.create_connection(("127.0.0.1", box.listen.https_port), 10)
    with context.wrap_socket(plain, server_hostname=host) as connection:
        raw = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        return parsed(exchange(connection, raw.encode()))[1].lower()


def foreign(own: Ca) -> Ca:
    """An authority like one of this machine's, of another organization."""
    cert, key = x509.load_pem_x509_certificate(own.cert_pem), serialization.load_pem_private_key(own.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Another Authority")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(validity(own.cert_pem)[0].replace(tzinfo=None))
        .not_valid_after(validity(own.cert_pem)[1].replace(tzinfo=None))
    )  # fmt: skip
    for extension in cert.extensions:
        made = made.add_extension(extension.value, extension.critical)
    return Ca(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), own.key_pem)


def test_only_what_is_new_is_told(box: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of many domains gets another certificate; a HAProxy that was restarted has all of them."""
    told: list[str] = []
    ask = Haproxy.ask

    async def heard(self: Haproxy, command: str, **options: bool) -> str:
        told.append(command)
        return await ask(self, command, **options)

    monkeypatch.setattr(Haproxy, "ask", heard)
    many = [Domain(f"d{number}.lan") for number in range(5)]
    certificates = [each.certificate() for each in many]
    give(box, *certificates)
    told.clear()
    certificates[2] = many[2].certificate()
    give(box, *certificates)
    assert [command.partition(" <<")[0] for command in told if command.startswith("set ssl cert")] == [
        f"set ssl cert {box.places.site_files}d2.lan"
    ]
    box.stop()
    box.start()
    asyncio.run(box.ingress.read())
    certificates[3] = many[3].certificate()
    give(box, *certificates)
    for each in many:
        shown(box, f"a.{each.name}", each.ca)
