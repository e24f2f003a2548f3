"""The client as a program: TLS, logins, processes that pull at once or are killed."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flyted.plan.images.pull_unit import resolved
from flyted.registry import words
from tests.registry.server import Handler, Registry, digest, layer_of

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parents[2] / "flyted/registry"
BIG = layer_of("big", 20_000_000)


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that is its own authority, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now, here = dt.datetime.now(dt.UTC), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    none = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)
    file = folder / "certificate.pem"
    file.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Registry]:
    """A registry with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    with Registry().serving(context) as serving:
        yield serving


def start(folder: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    (folder / "blobs").mkdir(exist_ok=True)
    keep = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return subprocess.Popen(
        [sys.executable, "-I", PROGRAM, words.PLATFORM, "linux/amd64", *options],
        env={**keep, "STATE_DIRECTORY": str(folder / "blobs"), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ran(folder: Path, *options: str, **environment: str) -> tuple[int, list[str]]:
    with start(folder, *options, **environment) as process:
        output = process.communicate(timeout=60)[0].splitlines()
    assert not [line for line in output if not line.startswith(words.OURS)], output
    return process.returncode, output


def of(registry: Registry, scheme: str = "http") -> list[str]:
    """The options for a registry on this machine: a setting names it."""
    name = f"127.0.0.1:{registry.port}"
    return [words.PULL, f"{name}/team/app:v1", words.MIRROR, f"{name}={scheme}://{name}"]


def test_tls(secure: Registry, tmp_path: Path) -> None:
    """With an authority that the machine trusts; its last line says which image it is."""
    image = secure.add_image("v1")
    status, output = ran(tmp_path, *of(secure, "https"), SSL_CERT_FILE=str(tmp_path / "certificate.pem"))
    assert status == 0, output
    assert resolved(output) == image["digest"]


def test_a_certificate_that_nobody_trusts(secure: Registry, tmp_path: Path) -> None:
    secure.add_image("v1")
    status, output = ran(tmp_path, *of(secure, "https"))
    assert status == words.EX_UNAVAILABLE
    assert "is not trusted: self-signed certificate" in output[-1]
    assert secure.asked == []


def test_a_server_without_tls(registry: Registry, tmp_path: Path) -> None:
    status, output = ran(tmp_path, *of(registry, "https"))
    assert (status, len(output)) == (words.EX_UNAVAILABLE, 1)
    assert "does not speak TLS" in output[0]


def test_without_a_setting_this_machine_is_closed(registry: Registry, tmp_path: Path) -> None:
    registry.add_image("v1")
    status, output = ran(tmp_path, *of(registry)[:2])
    assert status == words.EX_REFUSED
    assert "an address that only this machine can reach" in output[-1]
    assert registry.asked == []


def test_a_login_from_a_credential(registry: Registry, tmp_path: Path) -> None:
    registry.add_image("v1")
    basic = base64.b64encode(b"alice:s3cret").decode()
    registry.rules["."] = lambda h: (
        False if h.headers.get("Authorization") == f"Basic {basic}" else h.reply(401, WWW_Authenticate="Basic")
    )
    options = [*of(registry), words.RESOLVE_ONLY]
    assert ran(tmp_path, *options)[0] == words.EX_NOPERM
    (tmp_path / words.AUTH).write_text(json.dumps({"auths": {f"127.0.0.1:{registry.port}": {"auth": basic}}}))
    status, output = ran(tmp_path, *options, CREDENTIALS_DIRECTORY=str(tmp_path))
    assert status == 0, output
    (tmp_path / words.AUTH).write_text("no json")
    status, output = ran(tmp_path, *options, CREDENTIALS_DIRECTORY=str(tmp_path))
    assert (status, len(output)) == (words.EX_CONFIG, 1)


@pytest.mark.parametrize(
    "options", [(), (words.PULL, "NGINX"), (words.PULL, "a", words.MIRROR, "x"), (words.PULL, "a", "--more")]
)
def test_options_that_a_unit_does_not_have(tmp_path: Path, options: tuple[str, ...]) -> None:
    status, output = ran(tmp_path, *options)
    assert status == words.EX_CONFIG
    assert len(output) == 1


def test_without_a_unit(tmp_path: Path) -> None:
    status, output = ran(tmp_path, words.PULL, "a", STATE_DIRECTORY="")
    assert status == words.EX_CONFIG
    assert "STATE_DIRECTORY" in output[0]


def test_a_folder_that_cannot_be_written(registry: Registry, tmp_path: Path) -> None:
    status, output = ran(tmp_path, *of(registry), STATE_DIRECTORY="/proc")
    assert status == words.EX_IOERR
    assert "/proc" in output[0]


class TestTwo:
    """Two processes, and one that dies."""

    @pytest.fixture
    def gate(self, registry: Registry) -> threading.Event:
        """A large layer of which half comes, and the rest when the gate opens."""
        gate = threading.Event()
        registry.add_image("v1", layers=(BIG,))

        def half(handler: Handler) -> Any:
            if "Range" in handler.headers:
                return False
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(BIG)))
            handler.end_headers()
            handler.wfile.write(BIG[:10_000_000])
            handler.wfile.flush()
            gate.wait(30)
            handler.wfile.write(BIG[10_000_000:])
            return None

        registry.rules[digest(BIG)] = half
        return gate

    @staticmethod
    def arrived(registry: Registry, folder: Path) -> int:
        """Waits until much of the layer is on the disk."""
        part = registry.part(folder / "blobs", digest(BIG))
        for _ in range(600):
            if part.exists() and part.stat().st_size > 9_000_000:
                break
            time.sleep(0.05)
        return part.stat().st_size

    def test_both_need_one_layer(self, registry: Registry, tmp_path: Path, gate: threading.Event) -> None:
        """It is fetched once; the second waits, and says so."""
        with start(tmp_path, *of(registry)) as first:
            self.arrived(registry, tmp_path)
            with start(tmp_path, *of(registry)) as second:
                assert second.stdout is not None
                assert "waiting for it" in second.stdout.readline()
                gate.set()
                assert second.wait(30) == first.wait(30) == 0
                for process in (first, second):
                    process.communicate()
        assert len(registry.asked_for(digest(BIG))) == 1

    def test_killed_it_goes_on(self, registry: Registry, tmp_path: Path, gate: threading.Event) -> None:
        with start(tmp_path, *of(registry)) as first:
            came = self.arrived(registry, tmp_path)
            first.send_signal(signal.SIGKILL)
            first.communicate()
        gate.set()
        assert not list((tmp_path / "blobs" / words.PULLED).iterdir())
        assert ran(tmp_path, *of(registry))[0] == 0
        begin = int(registry.asked_for(digest(BIG))[-1]["Range"][6:-1])
        assert begin >= came - (1 << 20)
        assert (tmp_path / "blobs" / words.SHA256 / digest(BIG)[7:]).read_bytes() == BIG
