"""Certificates that an ACME authority gives, for apps that anybody's client trusts then: pebble in place of one."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from flyted.host import ca
from flyted.plan.ingress.state import CHALLENGES
from tests.machine.kit.apps import serve
from tests.machine.kit.guest import INSIDE, connected
from tests.machine.kit.pebble import ADDRESS, DIRECTORY, DOMAIN, LOST, Pebble, running, shown, status, visit, within
from tests.machine.kit.pypi_flyte import flyte
from tests.machine.kit.pypi_flyte import refused as refused_by_flyte
from tests.machine.kit.units import sh
from tests.machine.kit.users import alice, answer, curl, forget_apps, give, refused, serving

FIRST, SECOND = "acme-first", "acme-second"
CHALLENGE = "/.well-known/acme-challenge/abc"


@pytest.fixture(scope="module")
def ports(pypi_flyte: None) -> tuple[int, int]:
    """The ingress's ports for HTTPS and HTTP. What is downloaded is there before pebble resolves all names."""
    assert pypi_flyte is None
    https = urlsplit(serve(FIRST)).port or 443
    return https, {443: 80}.get(https, 8080)


@pytest.fixture(scope="module")
def pebble(ports: tuple[int, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """The authority, while the domain is served."""
    with running(tmp_path_factory.mktemp("pebble"), ports[1]) as found:
        found.leads_here(f"{FIRST}.{DOMAIN}", f"{SECOND}.{DOMAIN}")
        try:
            yield found
        finally:
            subprocess.run(["flytectl", "domain", "rm", DOMAIN, "--yes"], check=False, capture_output=True)
            forget_apps("acme-")


def order(pebble: Pebble, *more: str) -> str:
    """Have certificates ordered from it."""
    return sh(
        "flytectl", "domain", "set", DOMAIN, "--email", "me@example.org", "--acme-server", DIRECTORY,
        "--acme-server-ca", str(pebble.authority), "--yes", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def root(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority's root, once the first app has a certificate of it."""
    file = tmp_path_factory.mktemp("root") / "root.pem"
    file.write_bytes(pebble.root())
    order(pebble)
    return file


def orders() -> dict[str, dict[str, object]]:
    """What flyted says of each certificate."""
    return {each["name"]: each for each in answer("domain", "get", DOMAIN)["orders"]}


def test_an_app_gets_a_certificate_that_clients_trust(root: Path, ports: tuple[int, int]) -> None:
    """Until it is there, the app answers with this machine's; the ingress is not restarted for it."""
    before = sh("systemctl", "show", "--value", "-p", "MainPID", "flyted-ingress")
    took = within(60, lambda: visit(f"{FIRST}.{DOMAIN}", ports[0], root) == "200")
    print(f"the first certificate took {took:.1f} s")
    assert sh("systemctl", "show", "--value", "-p", "MainPID", "flyted-ingress") == before
    found = orders()[f"{FIRST}.{DOMAIN}"]
    assert str(found["issuer"]).startswith("Pebble")
    assert found["problem"] == ""
    assert curl(f"https://{FIRST}.apps.localhost:{ports[0]}/")[0] == 200


def test_another_machine_trusts_it(root: Path, ports: tuple[int, int]) -> None:
    """One that trusts the authority and nothing of this machine; it comes by the network, and to HTTPS by itself."""
    host = f"{FIRST}.{DOMAIN}"
    with connected(host):
        done = subprocess.run(
            [*INSIDE, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{url_effective}", "--max-time", "20",
             "--cacert", str(root), "--location", f"http://{host}:{ports[1]}/"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        where = f"{host}:{ports[0]}".removesuffix(":443")
        assert done.stdout == f"200 https://{where}/"
        asked = subprocess.run(
            [*INSIDE, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{host}:{ports[1]}{CHALLENGE}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert asked.stdout == "404", "nothing is on order"


def test_another_app_gets_one_at_its_first_serve(root: Path, ports: tuple[int, int]) -> None:
    """By itself; a second serve of the same app orders none."""
    serve(SECOND)
    within(60, lambda: visit(f"{SECOND}.{DOMAIN}", ports[0], root) == "200")
    before = orders()[f"{SECOND}.{DOMAIN}"]["not_before"]
    serve(SECOND, version=2)
    assert orders()[f"{SECOND}.{DOMAIN}"]["not_before"] == before


def test_challenges_are_answered_for_nobody_else(root: Path, ports: tuple[int, int]) -> None:
    """Nothing is being asked for now: not an app's name, nor the gateway's, nor one that is no app's."""
    for host in (f"{FIRST}.{DOMAIN}", f"no.{DOMAIN}", "flyted.localhost", "example.com"):
        assert visit(host, ports[1], None, CHALLENGE, "http") in {"308", "421", "404"}, host


def test_keys_are_on_no_disk(root: Path) -> None:
    """Neither the account's nor a certificate's, in none of flyted's folders; images bring keys of their own."""
    for place in ("/var/lib/flyted", "/var/cache/flyted", "/etc/flyted", "/run/flyted/ingress"):
        done = subprocess.run(
            ["grep", "-rlE", "--exclude-dir=layers", "--exclude-dir=images", "BEGIN (EC )?PRIVATE KEY", place],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout == "", place
    journal = sh("journalctl", "-q", "-b", "-t", "flyted-acme", "-t", "flyted", "-o", "cat")
    assert "PRIVATE KEY" not in journal


def test_a_certificate_is_revoked(root: Path, ports: tuple[int, int]) -> None:
    """When one with a new key is shown; visitors never meet a revoked one."""
    name = f"{FIRST}.{DOMAIN}"
    old = shown(name, ports[0], root)
    said = refused("flytectl", "domain", "revoke", DOMAIN, f"none.{DOMAIN}", "--yes", status=6)
    assert "requires root" in said
    sh("flytectl", "domain", "revoke", DOMAIN, name, "--yes")
    while (met := shown(name, ports[0], root)) == old:
        assert status(old) == ("Valid", 0)
    within(30, lambda: status(old) == ("Revoked", 1))
    assert status(met) == ("Valid", 0)
    assert met.public_key() != old.public_key()
    within(10, lambda: answer("domain", "get", DOMAIN)["revocations"] == [])
    assert f"the authority has revoked the old certificate of {name}" in sh("journalctl", "-u", "flyted", "-n", "50")


@pytest.mark.long
def test_a_kill_at_each_moment_of_an_order(root: Path, ports: tuple[int, int]) -> None:
    """Of flyted, of the order's unit, of the ingress: each order ends once, and visitors meet good certificates alone.

    A revocation orders a certificate; it is done when the old one is revoked.
    """
    name, secrets = f"{FIRST}.{DOMAIN}", Path("/var/lib/flyted/secrets")

    def units() -> list[Path]:
        return list(Path("/run/systemd/transient").glob("flyted-acme-*.service"))

    def reached(moment: str, old: x509.Certificate, stored_at: int) -> bool:
        match moment:
            case "unit":
                return units() != []
            case "challenge":
                return name in (Path("/run/flyted/ingress") / CHALLENGES).read_text()
            case "lego":
                return any(_comm(each) == "lego" for each in Path("/proc").glob("[0-9]*/comm"))
            case "stored":
                return secrets.stat().st_mtime_ns != stored_at
        return shown(name, ports[0], root) != old and (moment == "shown" or units() != [])

    kills = [("flyted", moment) for moment in ("unit", "challenge", "lego", "stored", "shown", "revoking")]
    for victim, moment in [*kills, ("flyted-ingress", "lego"), ("flyted-acme-*", "lego")]:
        old, stored_at = shown(name, ports[0], root), secrets.stat().st_mtime_ns
        sh("flytectl", "domain", "revoke", DOMAIN, name, "--yes")
        latest = time.monotonic() + 30
        while not reached(moment, old, stored_at):
            assert time.monotonic() < latest, f"{moment} has not come"
            time.sleep(0.002)
        sh("systemctl", "kill", "-s", "KILL", victim)
        assert status(shown(name, ports[0], root))[0] == "Valid", (victim, moment)
        within(60, lambda: subprocess.run(["flytectl", "domain", "renew", DOMAIN], check=False).returncode == 0)
        within(90, lambda old=old: status(old) == ("Revoked", 1))  # type: ignore[misc]
        new = shown(name, ports[0], root)
        assert status(new) == ("Valid", 0)
        assert new.public_key() != old.public_key()
        assert visit(name, ports[0], root) == "200"
        within(30, lambda: answer("domain", "get", DOMAIN)["revocations"] == [])
        assert orders()[name]["problem"] == ""
        ends = ca.validity(new.public_bytes(serialization.Encoding.PEM))[1]
        assert orders()[name]["not_after"] == ends.timestamp()
        assert units() == []


def _comm(file: Path) -> str:
    """The name of a process, "" of one that has ended."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def test_the_certificate_of_an_app_that_is_gone_is_revoked(root: Path, ports: tuple[int, int]) -> None:
    """Nobody is shown it any more, and none is ordered in its place."""
    name = f"{SECOND}.{DOMAIN}"
    old = shown(name, ports[0], root)
    alice("flytectl", "app", "delete", SECOND, "--yes", "--data")
    assert status(old) == ("Valid", 0)
    sh("flytectl", "domain", "revoke", DOMAIN, name, "--yes")
    within(30, lambda: status(old) == ("Revoked", 1))
    assert name not in orders()
    assert visit(name, ports[0], root) == LOST


def test_a_name_without_a_record(pebble: Pebble, root: Path, ports: tuple[int, int]) -> None:
    """The authority says so; the app has this machine's certificate until there is a record."""
    serve("acme-third")
    name = f"acme-third.{DOMAIN}"
    within(60, lambda: bool(orders()[name]["problem"]))
    assert f"the authority gives no certificate for {name}: " in str(orders()[name]["problem"])
    assert "could not resolve" in str(orders()[name]["problem"])
    assert curl(f"https://acme-third.apps.localhost:{ports[0]}/")[0] == 200
    assert visit(name, ports[0], root) == LOST
    assert "could not resolve" in json.dumps(answer("doctor"))
    pebble.leads_here(name)
    sh("flytectl", "domain", "renew", DOMAIN)
    within(60, lambda: visit(name, ports[0], root) == "200")
    assert orders()[name]["problem"] == ""


def test_an_authority_that_does_not_answer(pebble: Pebble, root: Path, ports: tuple[int, int]) -> None:
    """Good certificates stay; what is missing is ordered when it answers again."""
    pebble.stop()
    name = f"acme-fourth.{DOMAIN}"
    pebble.leads_here(name)
    serve("acme-fourth")
    within(90, lambda: bool(orders()[name]["problem"]))
    assert f"the authority {ADDRESS}:14000 cannot be reached" in str(orders()[name]["problem"])
    assert visit(f"{FIRST}.{DOMAIN}", ports[0], root) == "200"
    pebble.start()
    sh("flytectl", "domain", "renew", DOMAIN)
    within(60, lambda: orders()[name]["problem"] == "")


def test_a_kill_in_the_middle(pebble: Pebble, ports: tuple[int, int]) -> None:
    """flyted and the unit are killed while they ask; the certificate comes all the same."""
    name = f"acme-fifth.{DOMAIN}"
    pebble.leads_here(name)
    pebble.stop()
    pebble.start()
    root = pebble.folder / "root-5.pem"
    root.write_bytes(pebble.root())
    serve("acme-fifth")
    for _ in range(3):
        sh("systemctl", "kill", "-s", "KILL", "flyted")
        subprocess.run(["systemctl", "kill", "-s", "KILL", "flyted-acme-*"], check=False, capture_output=True)
        time.sleep(0.7)
    within(90, lambda: visit(name, ports[0], root) == "200")
    assert alice("flytectl", "app", "ls").returncode == 0


NAMED = """
import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
def root() -> str:
    return "named"

env = FastAPIAppEnvironment(
    name="acme-named", app=app, requires_auth=False,
    domain=flyte.app.Domain(subdomain={label!r}, custom_domain={name!r}),
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn", "websockets"),
)
"""


def test_a_subdomain_and_a_custom_domain(pebble: Pebble, ports: tuple[int, int], tmp_path: Path) -> None:
    """As the SDK writes them: the app answers at both, with certificates; a name of another app is refused."""
    root = tmp_path / "root.pem"
    root.write_bytes(pebble.root())
    file = give("named.py", NAMED.format(label="talk", name="chat.example.com"))
    said = refused(*serving(file), status=2)
    assert "custom_domain='chat.example.com' does not lead to this machine: it has no address in DNS" in said
    assert "make a DNS record: chat.example.com" in said
    pebble.leads_here("chat.example.com", f"talk.{DOMAIN}", f"acme-named.{DOMAIN}")
    done = alice(*serving(file))
    assert done.stdout.strip().splitlines()[-1].startswith("https://chat.example.com")
    for name in ("chat.example.com", f"talk.{DOMAIN}", f"acme-named.{DOMAIN}"):
        within(60, lambda name=name: visit(name, ports[0], root) == "200")  # type: ignore[misc]
    assert curl(f"https://talk.apps.localhost:{ports[0]}/")[0] == 200
    taken = give("taken.py", NAMED.format(label=FIRST, name="").replace("acme-named", "acme-taken"))
    assert f"is a name of app '{FIRST}'" in refused(*serving(taken), status=5)
    shown = sh("flytectl", "domain", "test", DOMAIN)
    assert f"{FIRST}.{DOMAIN}" in shown
    assert "this machine answers" in shown


def test_a_custom_domain_by_flyte(pebble: Pebble, ports: tuple[int, int], tmp_path: Path) -> None:
    """The stock CLI hears the same as that of flytectl, and nothing is deployed; with a record it is served."""
    root, name, app = tmp_path / "root.pem", "talk.example.net", "acme-stock"
    root.write_bytes(pebble.root())
    give("stock/custom.py", NAMED.format(label="say", name=name).replace("acme-named", app))
    said = refused_by_flyte("serve", "custom.py", "env")
    assert f"custom_domain='{name}' does not lead to this machine: it has no address in DNS" in said
    assert f"make a DNS record: {name}" in said
    assert app not in {each["name"] for each in answer("app", "ls")["apps"]}
    pebble.leads_here(name, f"say.{DOMAIN}", f"{app}.{DOMAIN}")
    flyte("serve", "custom.py", "env")
    within(60, lambda: visit(name, ports[0], root) == "200")


def test_the_domains_end_takes_its_certificates_along(root: Path, ports: tuple[int, int]) -> None:
    """No key is left in memory for the ingress, and a domain that comes again has nothing of them."""
    sh("flytectl", "domain", "rm", DOMAIN, "--yes")
    assert visit(f"{FIRST}.{DOMAIN}", ports[0], root) == LOST
    assert list(Path("/run/flyted/certificates").iterdir()) == []
    sh("flytectl", "domain", "set", DOMAIN, "--own-ca", "--yes")
    assert orders() == {}
    assert visit(f"{FIRST}.{DOMAIN}", ports[0], root) == LOST
