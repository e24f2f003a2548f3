"""Fifty apps whose certificates an ACME authority gives at once, and revokes at once; and what testssl.sh says."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from tests.machine.kit import packages
from tests.machine.kit.apps import serve
from tests.machine.kit.pebble import ADDRESS, DIRECTORY, Pebble, running, shown, status, visit, within
from tests.machine.kit.units import sh
from tests.machine.kit.users import answer, forget_apps

pytestmark = pytest.mark.long

DOMAIN = "crowd.example.org"  # no other module's: all of its certificates are revoked
NAMES = tuple(f"acme-crowd-{number}" for number in range(50))
HOSTS = tuple(f"{name}.{DOMAIN}" for name in NAMES)


@pytest.fixture(scope="module")
def port() -> int:
    """The ingress's port for HTTPS; the apps serve."""
    packages.install("testssl.sh")  # while names are resolved as usual
    return {urlsplit(serve(name)).port or 443 for name in NAMES}.pop()


@pytest.fixture(scope="module")
def pebble(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """The authority, which all names lead to."""
    with running(tmp_path_factory.mktemp("pebble"), {443: 80}.get(port, 8080)) as found:
        found.leads_here(*HOSTS)
        try:
            yield found
        finally:
            subprocess.run(["flytectl", "domain", "rm", DOMAIN, "--yes"], check=False, capture_output=True)
            forget_apps("acme-crowd-")


@pytest.fixture(scope="module")
def root(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority's root."""
    file = tmp_path_factory.mktemp("root") / "root.pem"
    file.write_bytes(pebble.root())
    return file


@pytest.fixture(scope="module")
def first(pebble: Pebble, root: Path, port: int) -> dict[str, x509.Certificate]:
    """What each name shows once all are ordered."""
    sh(
        "flytectl", "domain", "set", DOMAIN, "--email", "me@example.org", "--acme-server", DIRECTORY,
        "--acme-server-ca", str(pebble.authority), "--yes",
    )  # fmt: skip
    took = within(300, lambda: answer("domain", "get", DOMAIN)["orders"] != [] and not missing())
    print(f"{len(HOSTS)} certificates took {took:.0f} s")
    within(30, lambda: visit(HOSTS[-1], port, root) == "200")
    return {host: shown(host, port, root) for host in HOSTS}


def missing() -> list[str]:
    """The names that have no certificate of the authority."""
    return [each["name"] for each in answer("domain", "get", DOMAIN)["orders"] if not each["issuer"]]


def test_each_app_gets_one(first: dict[str, x509.Certificate], root: Path, port: int) -> None:
    """Its own, with a key of its own, and no order failed."""
    assert len({each.serial_number for each in first.values()}) == len(HOSTS)
    assert [host for host in HOSTS if visit(host, port, root) != "200"] == []
    assert [each["problem"] for each in answer("domain", "get", DOMAIN)["orders"] if each["problem"]] == []


def test_testssl_gives_the_best_grade(first: dict[str, x509.Certificate], root: Path, port: int) -> None:
    """A+ of the SSL Server Rating Guide, which testssl.sh follows: no old protocol, no weak cipher, and HSTS."""
    said = sh(
        "testssl", "--quiet", "--color", "0", "--warnings", "off", "--add-ca", str(root), "--ip", ADDRESS,
        f"https://{next(iter(first))}:{port}",
    )  # fmt: skip
    if "Rating" not in said:
        pytest.skip("this testssl.sh gives no grades")
    grade = re.search(r"Overall Grade +(\S+)", said)
    assert grade is not None, said
    assert grade[1] == "A+", said
    assert "VULNERABLE" not in said


def test_all_are_revoked_while_visitors_come(first: dict[str, x509.Certificate], root: Path, port: int) -> None:
    """Each visitor meets a certificate that is good, at every moment."""
    sh("flytectl", "domain", "revoke", DOMAIN, "--yes")
    met: dict[str, int] = {}
    began = time.monotonic()
    while answer("domain", "get", DOMAIN)["revocations"]:
        assert time.monotonic() - began < 300
        for host in HOSTS[::7]:
            found = shown(host, port, root)
            met[status(found)[0]] = met.get(status(found)[0], 0) + 1
    print(f"{len(HOSTS)} revocations took {time.monotonic() - began:.0f} s, {met}")
    assert set(met) == {"Valid"}
    assert {status(each) for each in first.values()} == {("Revoked", 1)}
    assert [host for host in HOSTS if status(shown(host, port, root)) != ("Valid", 0)] == []
