"""Apps at other base domains, for a client on another machine: a network namespace stands for it."""

from __future__ import annotations

import datetime as dt
import functools
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flyted.host.ca import Ca, issue_leaf, new_ca
from flyted.plan.ingress.certificates import FOLDER, PAGE
from tests.machine.kit.apps import serve
from tests.machine.kit.guest import INSIDE, OURS, OURS6, connected
from tests.machine.kit.units import sh
from tests.machine.kit.users import alice, answer, curl, refused

HOUSE, WORK = "apps.box.lan", "apps.example.org"
APP = "domains-app"
LOST = "000"


@pytest.fixture(scope="module", autouse=True)
def app() -> Iterator[str]:
    """An app that requires no token, and a visitor on a network of this machine."""
    url = serve(APP)
    try:
        with connected():
            yield url
    finally:
        for each in answer("domain", "ls")["domains"]:
            sh("flytectl", "domain", "rm", each["domain"], "--yes")
        alice("flytectl", "app", "delete", "--yes", "--data", APP)


@functools.cache  # it is asked for while flyted is stopped, too
def port() -> int:
    """The ingress's port for HTTPS."""
    return urlsplit(str(answer("app", "get", APP)["url"])).port or 443


def visit(host: str, authority: Path, address: str = OURS, *more: str) -> str:
    """The status that the visitor gets; :data:`LOST` if it comes to no answer."""
    where = f"[{address}]" if ":" in address else address
    done = subprocess.run(
        [*INSIDE, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20",
         "--cacert", str(authority), "--resolve", f"{host}:{port()}:{where}", *more, f"https://{host}:{port()}/"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout


@pytest.fixture(scope="module")
def house(app: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A domain whose certificate this machine signs; the file has the authority that the visitor trusts."""
    assert app
    sh("flytectl", "domain", "set", HOUSE, "--own-ca", "--yes")
    file = tmp_path_factory.mktemp("house") / "authority.pem"
    file.write_text(sh("flytectl", "ca", "show", HOUSE, "--pem"))
    return file


class Office:
    """An authority elsewhere, which signs for a domain of ours."""

    def __init__(self, folder: Path) -> None:
        """Make it."""
        self.ca: Ca = new_ca(WORK, dt.datetime.now(dt.UTC) - dt.timedelta(days=400), alone=True)
        self.authority, self.cert, self.key = folder / "authority.pem", folder / "cert.pem", folder / "key.pem"
        self.authority.write_bytes(self.ca.cert_pem)

    def sign(self, domain: str = WORK, days: int = 0) -> tuple[str, str, str, str]:
        """The options for a new certificate, signed so many days ago."""
        now = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
        pem = issue_leaf(self.ca, domain, now, alone=True).pem
        begin = pem.index(b"-----BEGIN PRIVATE KEY")
        self.cert.write_bytes(pem[:begin])
        self.key.write_bytes(pem[begin:])
        return "--cert", str(self.cert), "--key", str(self.key)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """One."""
    return Office(tmp_path_factory.mktemp("office"))


def test_nobody_is_reached_by_the_network_before(app: str, office: Office) -> None:
    """The ingress listens on this machine alone; without a terminal nothing changes that but --yes."""
    assert visit(f"{APP}.{HOUSE}", office.authority) == LOST
    said = sh_refused("flytectl", "domain", "set", HOUSE, "--own-ca")
    assert "other machines reach the apps" in said
    assert "--yes" in said
    refused("flytectl", "domain", "set", HOUSE, "--own-ca", "--yes", status=6)
    assert answer("domain", "ls")["domains"] == []
    assert urlsplit(app).hostname == f"{APP}.apps.localhost"


def sh_refused(*words: str) -> str:
    """What a command of root says that fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_house_reaches_its_apps(app: str, house: Path) -> None:
    """By IPv4 and IPv6, with a certificate of this machine; users of this machine go on as before."""
    host = f"{APP}.{HOUSE}"
    for address in (OURS, OURS6):
        assert visit(host, house, address) == "200"
    assert curl(app)[0] == 200
    assert answer("app", "get", APP)["url"].startswith(f"https://{host}")
    assert visit(f"nothing.{HOUSE}", house) == "421"
    assert visit(f"x.flyted.{HOUSE}", house, OURS, "--insecure") == "421"


@pytest.mark.parametrize("host", ["flyted.localhost", f"flyted.{HOUSE}"])
@pytest.mark.parametrize("address", [OURS, OURS6])
def test_the_gateway_is_not_on_the_network(house: Path, host: str, address: str) -> None:
    """Flyte's API and the login are for this machine, whatever name a visitor sends."""
    # by HTTP/2, HAProxy 2.6 now and then cancels what it answers before the body is there: the client hears no status
    assert visit(host, house, address, "--insecure", "--http1.1", "--data", "x") == "421"
    assert curl(f"https://flyted.localhost:{port()}/")[0] != 421


def test_the_login_is_not_on_the_network(house: Path) -> None:
    """At an app's local name a visitor comes to the app, also where users of this machine come to the gateway."""
    path = "/.flyted/session"
    assert curl(f"https://{APP}.apps.localhost:{port()}{path}")[0] == 401
    for host in (f"{APP}.apps.localhost", f"{APP}.{HOUSE}"):
        assert visit(host, house, OURS, "--insecure", "--request-target", path) == "404", host


def test_a_certificate_of_ones_own(app: str, house: Path, office: Office) -> None:
    """It is shown for its domain alone, and replaced while visitors come and go."""
    assert app
    sh("flytectl", "domain", "cert", WORK, *office.sign(), "--yes")
    host = f"{APP}.{WORK}"
    assert visit(host, office.authority) == "200"
    assert visit(host, house) == LOST
    assert visit(f"{APP}.{HOUSE}", house) == "200"
    before = answer("domain", "get", WORK)["fingerprint"]
    found: list[str] = []
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            found.append(visit(host, office.authority))

    visitors = [threading.Thread(target=come_and_go) for _ in range(2)]
    for each in visitors:
        each.start()
    for _ in range(5):
        sh("flytectl", "domain", "cert", WORK, *office.sign())
    done.set()
    for each in visitors:
        each.join()
    assert set(found) == {"200"}, found
    assert answer("domain", "get", WORK)["fingerprint"] != before


def test_old_names_redirect(app: str, house: Path, office: Office) -> None:
    """While asked for; the new name is in the URLs then."""
    sh("flytectl", "domain", "set", HOUSE, "--redirect-to", WORK)
    assert visit(f"{APP}.{HOUSE}", house) == "308"
    assert urlsplit(str(answer("app", "get", APP)["url"])).hostname == f"{APP}.{WORK}"
    both = house.with_name("both.pem")
    both.write_bytes(house.read_bytes() + b"\n" + office.authority.read_bytes())
    resolved = [word for domain in (HOUSE, WORK) for word in ("--resolve", f"{APP}.{domain}:{port()}:{OURS}")]
    done = subprocess.run(
        [*INSIDE, "curl", "-s", "-w", "%{http_code} %{url_effective}", "-o", "/dev/null", "--location", *resolved,
         "--cacert", str(both), f"https://{APP}.{HOUSE}:{port()}/?a=b"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.replace(f":{port()}", "") == f"200 https://{APP}.{WORK}/?a=b"
    sh("flytectl", "domain", "set", HOUSE, "--no-redirect")
    assert visit(f"{APP}.{HOUSE}", house) == "200"


def test_a_key_is_on_no_disk(office: Office) -> None:
    """Sealed in the vault, in memory for the ingress's start, and where the operator keeps it."""
    key = b"".join(office.key.read_bytes().splitlines()[1:2])[:40].decode()
    assert sh("findmnt", "-no", "FSTYPE", FOLDER).strip() == "ramfs"
    assert Path(FOLDER).stat().st_mode & 0o777 == 0o700
    assert key in (Path(FOLDER) / WORK).read_text()
    places = ("/var/lib/flyted", "/var/cache/flyted", "/run/flyted/ingress", "/etc/flyted", "/var/log")
    done = subprocess.run(["grep", "-rlF", key, *places], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    journal = subprocess.run(["journalctl", "-q", "--grep", key[:20]], capture_output=True, text=True, check=False)
    assert key[:20] not in journal.stdout
    for who in ("nobody", "haproxy", "flyted-gateway"):
        done = subprocess.run(["runuser", "-u", who, "--", "ls", FOLDER], capture_output=True, text=True, check=False)
        assert done.returncode != 0


def test_kills_and_restarts_change_nothing(house: Path, office: Office) -> None:
    """HAProxy finds all certificates by itself when it starts, with flyted stopped as well."""

    def served() -> list[str]:
        return [visit(f"{APP}.{HOUSE}", house), visit(f"{APP}.{WORK}", office.authority)]

    sh("systemctl", "kill", "-s", "KILL", "flyted-ingress")
    assert served() == ["200", "200"]
    sh("systemctl", "restart", "flyted")
    assert served() == ["200", "200"]
    sh("systemctl", "stop", "flyted.socket", "flyted-api.socket", "flyted-credentials.socket", "flyted")
    try:
        assert served() == ["200", "200"]
    finally:
        sh("systemctl", "start", "flyted.socket", "flyted-api.socket", "flyted-credentials.socket", "flyted")
    sh("systemctl", "restart", "flyted-ingress")
    assert served() == ["200", "200"]


def test_another_machine_gets_what_it_has_to_trust(house: Path) -> None:
    """Unencrypted, as it trusts nothing yet, and at flyted's own name alone; then it trusts the apps."""
    http = answer("domain", "get", HOUSE)["http_port"]

    def fetch(path: str, host: str = f"flyted.{HOUSE}") -> tuple[str, bytes]:
        done = subprocess.run(
            [*INSIDE, "curl", "-s", "-w", "%{stderr}%{http_code}", "--max-time", "20", "--resolve",
             f"{host}:{http}:{OURS}", f"http://{host}:{http}{path}"],
            capture_output=True, check=False,
        )  # fmt: skip
        return done.stderr.decode(), done.stdout

    pem = house.read_text()
    assert fetch("/ca.crt") == ("200", ssl.PEM_cert_to_DER_cert(pem.strip()))
    status, page = fetch("/")
    shown = alice("flytectl", "ca", "show", HOUSE).stdout
    digest = shown.partition("SHA-256")[2].split()[0]
    assert (status, digest in page.decode()) == ("200", True)
    status, profile = fetch("/ca.mobileconfig")
    assert status == "200"
    assert alice("flytectl", "ca", "show", HOUSE, "--mobileconfig").stdout.strip() == profile.decode().strip()
    assert "█" in alice("flytectl", "ca", "show", HOUSE, "--qr").stdout
    assert fetch("/login")[0] == fetch("/ca.crt", "flyted.localhost")[0] == "421"
    assert visit(f"flyted.{HOUSE}", house) == "200"
    assert "does not sign for" in refused("flytectl", "ca", "show", WORK, "--pem", status=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "localhost.localhost", "--own-ca"), "always means the client's own machine"),
        (("set", f"x.{HOUSE}", "--own-ca"), "would share names"),
        (("set", "lan", "--own-ca"), "is not a domain"),
        (("set", "a b.lan", "--own-ca"), "is not a domain"),
        (("get", "nothing.lan"), "there is no base domain 'nothing.lan'"),
        (("rm", "nothing.lan", "--yes"), "there is no base domain 'nothing.lan'"),
    ],
)
def test_what_cannot_be(house: Path, office: Office, words: tuple[str, ...], said: str) -> None:
    """It is said why, and changes nothing."""
    assert house
    assert office
    before = answer("domain", "ls")
    assert said in sh_refused("flytectl", "domain", *words)
    assert answer("domain", "ls") == before


def test_certificates_that_cannot_be(house: Path, office: Office, tmp_path: Path) -> None:
    """The one before stays in use."""
    assert house
    good = answer("domain", "get", WORK)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        office.cert, office.key = folder / "cert.pem", folder / "key.pem"
        office.sign()
    for cert, key, said in (
        (first / "cert.pem", second / "key.pem", "the key does not fit the certificate"),
        (first / "cert.pem", first / "cert.pem", "no private key"),
        (first / "key.pem", first / "key.pem", "no certificate"),
        (first / "nothing", first / "key.pem", "there is no file"),
    ):
        assert said in sh_refused("flytectl", "domain", "cert", WORK, "--cert", str(cert), "--key", str(key))
    assert "the certificate ended on" in sh_refused("flytectl", "domain", "cert", WORK, *office.sign(days=200))
    office.ca = new_ca("apps.other.org", alone=True)
    said = sh_refused("flytectl", "domain", "cert", WORK, *office.sign("apps.other.org"))
    assert f"is not for *.{WORK}, but for *.apps.other.org" in said
    assert answer("domain", "get", WORK) == good
    assert visit(f"{APP}.{WORK}", office.authority) == "200"


@pytest.mark.long
def test_no_more_certificates_than_the_ingress_can_start_with(house: Path, tmp_path: Path) -> None:
    """systemd gives a unit 1 MiB, in pages: what has no room is refused, and the ingress starts as before."""
    for number in range(40):
        name, cert, key = f"apps.n{number}.example.net", tmp_path / "cert.pem", tmp_path / "key.pem"
        authority = new_ca(name, alone=True)
        pem = issue_leaf(authority, name, alone=True).pem
        begin = pem.index(b"-----BEGIN PRIVATE KEY")
        cert.write_bytes(pem[:begin] + authority.cert_pem * (1 + (8 * PAGE - begin) // len(authority.cert_pem)))
        key.write_bytes(pem[begin:])
        words = ("flytectl", "domain", "cert", name, "--cert", str(cert), "--key", str(key))
        done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            break
    assert "the ingress has no room for another certificate" in done.stderr
    served = [each["domain"] for each in answer("domain", "ls")["domains"] if each["domain"].endswith(".example.net")]
    assert len(served) == number > 20
    sh("systemctl", "restart", "flyted-ingress")
    assert visit(f"{APP}.{HOUSE}", house) == "200"
    for each in served:
        sh("flytectl", "domain", "rm", each, "--yes")


def test_the_last_domain_takes_the_addresses_along(app: str, house: Path, office: Office) -> None:
    """And nothing of either is left; the app is where it was."""
    sh("flytectl", "domain", "rm", WORK, "--yes")
    assert visit(f"{APP}.{WORK}", office.authority) == LOST
    assert visit(f"{APP}.{HOUSE}", house) == "200"
    sh("flytectl", "domain", "rm", HOUSE, "--yes")
    assert visit(f"{APP}.{HOUSE}", house) == LOST
    assert list(Path(FOLDER).iterdir()) == []
    assert curl(app)[0] == 200
    assert answer("app", "get", APP)["url"] == app
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((OURS, port()), 5)


def test_another_program_at_the_port(app: str) -> None:
    """Such as a web server that listens on one address only: nothing changes, and the apps stay up."""
    with socket.create_server((OURS, port())):
        said = sh_refused("flytectl", "domain", "set", HOUSE, "--own-ca", "--yes")
    assert f"another program listens on port {port()}" in said
    assert answer("domain", "ls")["domains"] == []
    assert curl(app)[0] == 200
    assert json.loads(sh("flytectl", "doctor", "--json"))
