"""`flytectl domain test`: what is said of a name's addresses, and of the servers that answer at them."""

from __future__ import annotations

import datetime as dt
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flytectl import cli, reach
from flytectl.addresses import is_here
from flytectl.reach import Address, judged, names_of
from flyted.contract.answers.codec import to_wire
from flyted.contract.answers.domains import DomainStatus, OrderStatus
from flyted.host.ca import issue_leaf, new_ca
from tests.answers import whole
from tests.flytectl.stub_daemon import result

pytestmark = pytest.mark.slow

DOMAIN = "apps.example.org"
NAME = f"a.{DOMAIN}"
PUBLIC, ROUTER, INSIDE = "203.0.114.7", "203.0.114.9", "192.168.1.5"
ORDERED = whole(
    DomainStatus, domain=DOMAIN, certificate="acme", server="https://ca.example.net/dir", https_port=443, http_port=80,
    orders=(OrderStatus(NAME, "R11", 1.0, 2.0, 0.0, "", ""), OrderStatus(f"*.{DOMAIN}", "R11", 1.0, 2.0, 0.0, "", "")),
)  # fmt: skip


def test_which_names_are_tried() -> None:
    """A few of those that have certificates, and one that only a wildcard record leads here."""
    assert names_of(ORDERED) == (NAME, f"flyted-test.{DOMAIN}")
    many = tuple(OrderStatus(f"{n}.{DOMAIN}", "", 0.0, 0.0, 0.0, "", "") for n in range(9))
    assert len(names_of(replace(ORDERED, orders=many))) == 4


@pytest.mark.parametrize(
    ("addresses", "public", "ok", "said"),
    [
        ([], [PUBLIC], False, "has no address in DNS"),
        ([Address(PUBLIC, here=True)], [PUBLIC], True, "this machine"),
        ([Address(ROUTER, here=False)], [PUBLIC], None, f"{ROUTER} is none of this machine's addresses"),
        ([Address(PUBLIC, here=True), Address(ROUTER, here=False)], [PUBLIC], None, f": {ROUTER} is none of"),
        ([Address(ROUTER, here=False)], [], None, f"{ROUTER} is none of this machine's addresses"),
        ([Address(INSIDE, here=True)], [], None, "which the internet cannot reach"),
    ],
)
def test_where_a_name_leads(addresses: list[Address], public: list[str], ok: bool | None, said: str) -> None:
    """Each with what to do about it."""
    found = judged(NAME, addresses, ORDERED, public=public)
    assert (found.ok, said in found.detail) == (ok, True), found
    assert found.hint


def test_a_house_needs_no_public_address() -> None:
    """Its names lead to private ones, as they should."""
    house = replace(ORDERED, server="", certificate="own-ca")
    assert judged(NAME, [Address(INSIDE, here=True)], house, public=[]).ok


def test_which_addresses_are_here() -> None:
    assert is_here("127.0.0.1")
    assert not is_here("192.0.2.77")
    assert not is_here("2001:db8::77")


class Server:
    """A server that answers all at a port: TLS with its own certificate, or with a few bytes."""

    def __init__(self, folder: Path, said: bytes = b"") -> None:
        """Listen at a port of loopback."""
        self.said, self.listener = said, socket.create_server(("127.0.0.1", 0))
        self.context: ssl.SSLContext | None = None
        if not said:
            pem = folder / f"{self.port}.pem"
            pem.write_bytes(issue_leaf(new_ca(DOMAIN), DOMAIN, dt.datetime.now(dt.UTC)).pem)
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(pem)
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listener.getsockname()[1])

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self.listener.accept()
                if self.context is not None:
                    self.context.wrap_socket(plain, server_side=True).close()
                else:
                    plain.recv(4096)
                    plain.sendall(self.said)
                    plain.close()
            except OSError:
                if self.listener.fileno() < 0:
                    return


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All names lead to loopback, which stands for an address of this machine."""
    found = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, port, *more, **options: found("127.0.0.1", port, *more, **options)
    )
    yield


OURS = b"HTTP/1.1 421 Misdirected Request\r\n\r\n421: this machine has no app of this name; its operator can"
OTHER = b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\n\r\n"


@pytest.mark.parametrize(("said", "ok"), [(OURS, True), (OTHER, False), (b"SSH-2.0-OpenSSH\r\n", False),
    (b"HTTP/1.1 308 Permanent Redirect\r\nLocation: https://router/\r\n\r\n", False),
])  # fmt: skip
def test_who_answers_at_a_name(here: None, tmp_path: Path, said: bytes, ok: bool) -> None:
    """By the text on port 80, and by the certificate: the same as that of this machine's ingress."""
    https, http = Server(tmp_path), Server(tmp_path, said)
    found = {each.name: each for each in reach.run(replace(ORDERED, https_port=https.port, http_port=http.port))}
    assert found[f"{NAME}:{http.port}"].ok is ok
    assert found[f"{NAME}:{https.port}"].ok
    assert found["certificate"].ok


def test_a_certificate_that_is_on_order_is_not_called_good() -> None:
    """Nor one that could not be had."""
    ordered = tuple(replace(each, issuer="") for each in ORDERED.orders)
    states = [each.state for each in (ORDERED, replace(ORDERED, orders=ordered), replace(ORDERED, problem="ended"))]
    assert states == ["ok", "2 of 2 certificates are on order", "ended"]


def test_nobody_answers(here: None) -> None:
    """That may be the router's doing: it is a warning, and says so."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    found = {each.name: each for each in reach.run(replace(ORDERED, https_port=port, http_port=port, problem="ended"))}
    assert found[f"{NAME}:{port}"].ok is None
    assert "cannot be reached from this machine" in found[f"{NAME}:{port}"].detail
    assert (found["certificate"].ok, found["certificate"].detail) == (None, "ended")


def test_what_is_seen_before_there_are_certificates(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record for all apps, and who answers an authority; nothing where all is right."""
    inside, nobody = f"flyted-test.{DOMAIN}", replace(ORDERED, orders=())
    asks = replace(nobody, http_port=Server(tmp_path, OTHER).port)
    assert [each.name for each in reach.at_first(asks)] == [inside, f"{inside}:{asks.http_port}"]
    assert [each.name for each in reach.at_first(replace(asks, dns="hetzner"))] == [inside]
    monkeypatch.setattr(reach, "resolve", lambda _name: [Address(PUBLIC, here=True)])
    assert reach.at_first(replace(asks, dns="hetzner")) == []
    monkeypatch.setattr(reach, "resolve", lambda _name: [])
    assert [(each.name, each.detail) for each in reach.at_first(asks)] == [(inside, "has no address in DNS")]


def test_the_command(here: None, stub_daemon, tmp_path: Path, capsys) -> None:
    """It ends with 1 if something is broken, and says what cannot be seen from here."""
    https, http = Server(tmp_path), Server(tmp_path, OTHER)
    stub_daemon(result(**to_wire(replace(ORDERED, https_port=https.port, http_port=http.port))))
    assert cli.main(["domain", "test", DOMAIN]) == 1
    shown = capsys.readouterr()
    assert "another server answers there (404)" in shown.out
    assert f"open https://{NAME} on a phone" in shown.err
    stub_daemon(result(**to_wire(replace(ORDERED, https_port=https.port, dns="hetzner"))))
    assert cli.main(["domain", "test", DOMAIN, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
