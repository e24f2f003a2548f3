"""An ACME authority and a DNS server of its own on this machine: Debian's pebble and pebble-challtestsrv."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import socket
import sqlite3
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.machine.kit import packages
from tests.machine.kit.users import answer

ADDRESS = "192.0.2.60"  # of this machine's loopback interface: units reach no 127.0.0.1 (RFC 5737)
DIRECTORY = f"https://{ADDRESS}:14000/dir"
RESOLVER = Path("/etc/resolv.conf")
DOMAIN = "apps.example.org"
"""The domain whose certificates the tests order."""
LOST = "000"
"""What :func:`visit` returns for a visitor that comes to no answer."""


def must(*words: str) -> str:
    """Run a command that has to work."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class Pebble:
    """Both programs. ``port``: that on which the names of certificates answer HTTP. ``folder``: for their files.

    ``reuse``: the percentage of orders for which a proof of an earlier one still counts.
    """

    def __init__(self, folder: Path, port: int, reuse: int = 50) -> None:
        """Make the authority's own certificate."""
        self._environment = {
            "PATH": "/usr/bin:/usr/sbin", "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "5",
            "PEBBLE_AUTHZREUSE": str(reuse),
        }  # fmt: skip
        self.folder = folder
        self.authority = folder / "pebble.pem"
        self._own_certificate()
        self.port = port
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start_dns(self) -> None:
        """Start the DNS server, which knows no name."""
        self._begin(
            "pebble-challtestsrv", "-dns01", f"{ADDRESS}:53", "-http01", "", "-https01", "", "-tlsalpn01", "",
            "-defaultIPv4", "", "-defaultIPv6", "", "-management", f"{ADDRESS}:8055",
        )  # fmt: skip
        wait_for(f"http://{ADDRESS}:8055/set-default-ipv4", {"ip": ""})

    def start(self, life_s: int = 90 * 86400) -> None:
        """Start the authority. ``life_s``: how long a certificate is good for, in seconds."""
        config = {
            "listenAddress": f"{ADDRESS}:14000", "managementListenAddress": f"{ADDRESS}:15000",
            "certificate": str(self.authority), "privateKey": str(self.folder / "pebble.key"),
            "httpPort": self.port, "tlsPort": 5001, "ocspResponderURL": "", "externalAccountBindingRequired": False,
            "certificateValidityPeriod": life_s,
        }  # fmt: skip
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": config}))
        self._begin("pebble", "-config", str(self.folder / "pebble.json"), "-dnsserver", f"{ADDRESS}:53")
        wait_for(f"https://{ADDRESS}:15000/roots/0")

    def stop(self, name: str = "pebble") -> None:
        """End a program."""
        running = self._running.pop(name, None)
        if running is not None:
            running.kill()
            running.wait()

    def root(self) -> bytes:
        """The certificate of the authority's root: another one after each start."""
        return fetch(f"https://{ADDRESS}:15000/roots/0")

    def dns(self, verb: str, **values: Any) -> None:
        """Change what the DNS server says."""
        fetch(f"http://{ADDRESS}:8055/{verb}", values)

    def leads_here(self, *names: str) -> None:
        """Make records of names."""
        for name in names:
            self.dns("add-a", host=name, addresses=[ADDRESS])

    def _begin(self, name: str, *options: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [name, *options], stdout=log, stderr=log, env=self._environment,
            )  # fmt: skip

    def _own_certificate(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pebble")])
        now, here = dt.datetime.now(dt.UTC), x509.IPAddress(ipaddress.ip_address(ADDRESS))
        made = (
            x509.CertificateBuilder()
            .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(9))
            .add_extension(x509.SubjectAlternativeName([here]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        self.authority.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        form, none = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        (self.folder / "pebble.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, none))


@contextlib.contextmanager
def running(folder: Path, port: int, life_s: int = 90 * 86400, reuse: int = 50) -> Iterator[Pebble]:
    """Both, with this machine's names resolved by their DNS server."""
    packages.install("lego", "pebble")
    forget_issued()
    must("ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo")
    before = RESOLVER.read_text()
    found = Pebble(folder, port, reuse)
    try:
        found.start_dns()
        RESOLVER.write_text(f"nameserver {ADDRESS}\n")
        found.start(life_s)
        yield found
    finally:
        RESOLVER.write_text(before)
        found.stop()
        found.stop("pebble-challtestsrv")
        must("ip", "address", "del", f"{ADDRESS}/32", "dev", "lo")


def forget_issued() -> None:
    """Have flyted forget what earlier authorities gave: those are gone, and revoke nothing any more."""
    with contextlib.closing(sqlite3.connect("/var/lib/flyted/flyted.db", isolation_level=None)) as database:
        if database.execute("SELECT count(*) FROM certificate_issued").fetchone() != (0,):
            must("systemctl", "stop", "flyted.socket", "flyted.service")
            database.execute("DELETE FROM certificate_issued")
    must("systemctl", "start", "flyted.socket", "flyted.service")


def fetch(url: str, values: dict[str, Any] | None = None) -> bytes:
    """What a server of this machine answers."""
    nobody = ssl.create_default_context()
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    data = json.dumps(values).encode() if values is not None else None
    with urllib.request.urlopen(url, data, 10, context=nobody) as reply:
        return bytes(reply.read())


def shown(host: str, port: int, authority: Path) -> x509.Certificate:
    """The certificate that a visitor meets who trusts this authority alone."""
    trusted = ssl.create_default_context(cafile=str(authority))
    with (
        socket.create_connection((ADDRESS, port)) as plain,
        trusted.wrap_socket(plain, server_hostname=host) as connection,
    ):
        return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")


def status(of: x509.Certificate) -> tuple[str, int]:
    """Whether the authority has revoked a certificate, and the reason by its number in RFC 5280."""
    found = json.loads(fetch(f"https://{ADDRESS}:15000/cert-status-by-serial/{of.serial_number:x}"))
    return str(found["Status"]), int(found.get("Reason") or 0)


def wait_for(url: str, values: dict[str, Any] | None = None) -> None:
    """Wait until a server answers."""
    for _ in range(200):
        with contextlib.suppress(OSError):
            fetch(url, values)
            return
        time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def visit(host: str, port: int, authority: Path | None = None, path: str = "/", scheme: str = "https") -> str:
    """The status that a visitor gets who trusts this authority alone; :data:`LOST` if it trusts no certificate."""
    trust = ["--cacert", str(authority)] if authority else []
    done = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20", *trust, "--resolve",
         f"{host}:{port}:{ADDRESS}", f"{scheme}://{host}:{port}{path}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout


def within(seconds: float, found: Callable[[], bool]) -> float:
    """How long it takes until it is so."""
    began = time.monotonic()
    while not found():
        if time.monotonic() - began > seconds:
            raise AssertionError(json.dumps(answer("domain", "get", DOMAIN), indent=1))
        time.sleep(0.1)
    return time.monotonic() - began
