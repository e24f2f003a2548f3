"""One certificate for a whole domain, proved by DNS records; and renewals, with certificates of half a minute."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.machine.kit.apps import serve
from tests.machine.kit.pebble import ADDRESS, DIRECTORY, DOMAIN, LOST, Pebble, running, shown, status, visit, within
from tests.machine.kit.units import sh
from tests.machine.kit.users import answer, forget_apps

APP = "acme-dns"
PASSWORD = "s3cret-of-the-dns-provider"


OTHER = "other.example.org"
WRONG = "wr0ng-t0ken-of-somebody"


class Provider(BaseHTTPRequestHandler):
    """A provider that lego's `httpreq` speaks to: it makes records in pebble's DNS server, for who has the password.

    Others get 401, and what they said to be their password.
    """

    pebble: Pebble
    asked: list[str]

    def do_POST(self) -> None:
        """Make or delete a record."""
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        login = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        if login != f"me:{PASSWORD}":
            return self.answer(401, f"no user has the token {login.partition(':')[2]}".encode())
        self.asked.append(self.path)
        if self.path == "/present":
            self.pebble.dns("set-txt", host=given["fqdn"], value=given["value"])
        else:
            self.pebble.dns("clear-txt", host=given["fqdn"])
        return self.answer(200)

    def answer(self, status: int, body: bytes = b"") -> None:
        """Send an answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def port() -> int:
    """The ingress's port for HTTPS, with an app that serves."""
    return urlsplit(serve(APP)).port or 443


@pytest.fixture(scope="module")
def pebble(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """An authority whose certificates are good for 40 seconds, and a DNS provider; port 80 leads nowhere."""
    assert port
    with running(tmp_path_factory.mktemp("pebble"), 9, life_s=40) as found:
        Provider.pebble, Provider.asked = found, []
        server = ThreadingHTTPServer((ADDRESS, 0), Provider)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, password in (("variables", PASSWORD), ("refused", WRONG)):
            (found.folder / name).write_text(
                f"HTTPREQ_ENDPOINT=http://{ADDRESS}:{server.server_address[1]}\nHTTPREQ_USERNAME=me\n"
                f"HTTPREQ_PASSWORD={password}\nLEGO_DNS_DISABLE_CP=true\n"
            )
        try:
            yield found
        finally:
            for domain in (DOMAIN, OTHER):
                subprocess.run(["flytectl", "domain", "rm", domain, "--yes"], check=False, capture_output=True)
            forget_apps("acme-")
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="module")
def root(pebble: Pebble) -> Path:
    """The authority's root; the domain's certificate is ordered."""
    file = pebble.folder / "root.pem"
    file.write_bytes(pebble.root())
    serve_at(DOMAIN, pebble, pebble.folder / "variables")
    within(60, lambda: visit(f"{APP}.{DOMAIN}", port_of(), file) == "200")
    return file


def serve_at(domain: str, pebble: Pebble, variables: Path) -> None:
    """Have a certificate for all apps ordered, with these variables of the provider's."""
    sh(
        "flytectl", "domain", "set", domain, "--email", "me@example.org", "--acme-server", DIRECTORY,
        "--acme-server-ca", str(pebble.authority), "--dns", "httpreq", "--from-file", str(variables), "--yes",
    )  # fmt: skip


def port_of() -> int:
    """The ingress's port for HTTPS."""
    return int(answer("domain", "get", DOMAIN)["https_port"])


def test_one_certificate_is_for_all_apps(root: Path, port: int) -> None:
    """No app has to be asked over HTTP, and a name that is no app's has it too."""
    assert visit(f"nobody.{DOMAIN}", port, root) == "421"
    (order,) = answer("domain", "get", DOMAIN)["orders"]
    assert (order["name"], order["problem"]) == (f"*.{DOMAIN}", "")
    assert Provider.asked[:2] == ["/present", "/cleanup"]


def test_a_wrong_token(root: Path, pebble: Pebble, port: int) -> None:
    """What the provider says is told, but for the token, and what to type. With the right one it works."""
    serve_at(OTHER, pebble, pebble.folder / "refused")
    within(60, lambda: bool(answer("domain", "get", OTHER)["problem"]))
    found = answer("domain", "get", OTHER)
    assert f"the DNS provider httpreq makes no record for *.{OTHER}: httpreq: " in found["problem"]
    assert "401" in found["problem"]
    assert "no user has the token ***" in found["problem"]
    assert f"sudo flytectl domain set {OTHER} --email me@example.org --dns httpreq --from-file FILE" in found["hint"]
    assert WRONG not in json.dumps(found) + sh("journalctl", "-q", "-b", "-o", "verbose", "-u", "flyted*")
    serve_at(OTHER, pebble, pebble.folder / "variables")
    within(60, lambda: visit(f"{APP}.{OTHER}", port, root) == "200")
    assert answer("domain", "get", OTHER)["problem"] == ""
    sh("flytectl", "domain", "rm", OTHER, "--yes")


def test_the_providers_password_is_nowhere(root: Path) -> None:
    """In no file of flyted's and no line of the journal."""
    assert root.exists()
    places = ("/var/lib/flyted", "/var/cache/flyted", "/etc/flyted", "/run/flyted/ingress")
    done = subprocess.run(["grep", "-rlF", PASSWORD, *places], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert PASSWORD not in sh("journalctl", "-q", "-b", "-o", "verbose", "-u", "flyted*")


def test_it_is_revoked(root: Path, port: int) -> None:
    """The certificate for all apps, by the same command; its account proved the names by DNS."""
    old = shown(f"{APP}.{DOMAIN}", port, root)
    sh("flytectl", "domain", "revoke", DOMAIN, f"*.{DOMAIN}", "--yes")
    within(60, lambda: shown(f"{APP}.{DOMAIN}", port, root).public_key() != old.public_key())
    within(30, lambda: status(old) == ("Revoked", 1))
    assert visit(f"{APP}.{DOMAIN}", port, root) == "200"


@pytest.mark.long
def test_it_is_renewed_while_visitors_come(root: Path, port: int) -> None:
    """At two thirds of its life, by itself; no visitor meets anything else than a good certificate."""
    seen: set[str] = set()
    met: set[str] = set()
    began = time.monotonic()
    while len(seen) < 3 and time.monotonic() - began < 110:
        met.add(visit(f"{APP}.{DOMAIN}", port, root))
        seen.add(answer("domain", "get", DOMAIN)["fingerprint"])
        time.sleep(0.5)
    assert met == {"200"}
    assert len(seen) >= 3, "renewed twice"


@pytest.mark.long
def test_a_certificate_that_ended_while_flyted_was_away(root: Path, port: int) -> None:
    """As years later, or when the clock is set: visitors meet the old one, and a new one as soon as flyted runs."""
    name = f"{APP}.{DOMAIN}"
    sh("systemctl", "stop", "flyted.socket", "flyted.service")
    try:
        within(90, lambda: visit(name, port, root) == LOST)
    finally:
        sh("systemctl", "start", "flyted.socket", "flyted.service")
    within(60, lambda: visit(name, port, root) == "200")
    (order,) = answer("domain", "get", DOMAIN)["orders"]
    assert order["problem"] == ""
    assert order["not_after"] > time.time()


@pytest.mark.long
def test_a_provider_that_refuses_takes_nothing_away(root: Path, pebble: Pebble) -> None:
    """What lego says of it is told, with its password masked."""
    assert root.exists()
    file = pebble.folder / "wrong"
    file.write_text(f"HTTPREQ_ENDPOINT=http://{ADDRESS}:1\nHTTPREQ_PASSWORD={PASSWORD}\nLEGO_DNS_DISABLE_CP=true\n")
    serve_at(DOMAIN, pebble, file)
    within(120, lambda: bool(answer("domain", "get", DOMAIN)["problem"]))
    found = answer("domain", "get", DOMAIN)
    assert f"the DNS provider httpreq makes no record for *.{DOMAIN}" in found["problem"]
    assert "connection refused" in found["problem"]
    assert found["orders"][0]["issuer"], "the one that there is stays until its end"
    assert PASSWORD not in json.dumps(found) + sh("journalctl", "-q", "-b", "-u", "flyted", "-o", "cat")
