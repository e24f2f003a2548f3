"""Flyte's guide from another machine: `flyte` and the SDK there, this machine's API at a base domain.

A network namespace and a user without rights stand for the other machine. Each test needs those before.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.companion_sdk import ABORTED, SHARE, clear
from tests.machine.kit.environments import UV, environment_for, install
from tests.machine.kit.guest import INSIDE, OURS, connected
from tests.machine.kit.units import sh
from tests.machine.kit.users import EXAMPLES, Done, alice, answer, becoming, by, environment, may_serve, refused

DOMAIN = "apps.box.lan"
API = f"flyted.{DOMAIN}"
APP = "authenticated-api"
RPC = "/flyteidl2.app.AppService/List"
KEY = "-a-key-with-a-dash"
FOLDER = Path("/home/mallory/laptop")
VENV = Path("/opt/flyte/laptop")


class Laptop:
    """A user's shell on the other machine."""

    @property
    def port(self) -> int:
        """The port of this machine's ingress; there is a domain by now."""
        return int(answer("domain", "get", DOMAIN)["https_port"])

    def run(self, command: str, typed: str = "") -> Done:
        """Run a command line there, and print it with what it says."""
        login = {**environment("mallory"), "HOME": str(FOLDER), "DO_NOT_TRACK": "1", "COLUMNS": "200"}
        login["SSL_CERT_FILE"] = str(FOLDER / ".flyte/flyted-bundle.pem")  # as the script says
        login["PATH"] = f"{VENV}/bin:{login['PATH']}"
        done = subprocess.run(
            [*INSIDE, *becoming("mallory"), "bash", "-c", command], input=typed, capture_output=True, text=True,
            check=False, timeout=300, cwd=FOLDER, env=login,
        )  # fmt: skip
        print(f"laptop$ {command}\n{done.stdout}{done.stderr}")
        return done

    def works(self, command: str, typed: str = "") -> str:
        """What a command says that must work; its abort at the end is passed over."""
        done = self.run(command, typed)
        assert done.returncode in {0, *ABORTED}, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def status(self, host: str, path: str = "/", *more: str) -> str:
        """The status of a request to this machine by any name, whoever signed for it."""
        where = f"{host}:{self.port}"
        curl = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20", "--resolve"]
        done = subprocess.run(
            [*INSIDE, *curl, f"{where}:{OURS}", *more, f"https://{where}{path}"], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        return done.stdout


@pytest.fixture(scope="module")
def laptop() -> Iterator[Laptop]:
    """With the SDK installed, and the guide's script; this machine has no other domain yet."""
    may_serve()
    clear("API_KEY", apps=(APP,))
    shutil.rmtree(FOLDER, ignore_errors=True)
    sh("install", "-d", "-o", "mallory", "-g", "mallory", str(FOLDER))
    packages = ("flyte==2.12.1", "fastapi", "uvicorn", *map(str, SHARE.glob("flyted-*.whl")))
    install(environment_for(VENV.name), *packages, owner="mallory")
    shutil.copy(EXAMPLES / "basic_auth.py", FOLDER)
    try:
        with connected(API, f"{APP}.{DOMAIN}"):
            yield Laptop()
    finally:
        by("root", "flytectl", "domain", "rm", DOMAIN, "--yes")
        by("alice", "flytectl", "token", "revoke", "laptop")
        clear("API_KEY", apps=(APP,))
        shutil.rmtree(FOLDER)


def test_it_is_set_up_by_one_line(laptop: Laptop) -> None:
    """After root has said that the API may be reached; before, the error says so."""
    said = refused("flytectl", "config", "init", "--for-other-machine", "laptop", status=4)
    assert "hint: sudo flytectl domain set DOMAIN --api" in said
    sh("flytectl", "domain", "set", DOMAIN, "--own-ca", "--yes")
    assert laptop.status(API, RPC) == "421"
    sh("flytectl", "domain", "set", DOMAIN, "--api", "--yes")
    script = alice("flytectl", "config", "init", "--for-other-machine", "laptop").stdout
    assert f"https://{API}" in laptop.works("sh", typed=script)
    assert sh("stat", "-c", "%a", str(FOLDER / ".flyte/flyted.token")) == "600"
    assert "alice" in laptop.works("flyte whoami")


def test_the_guide_works(laptop: Laptop) -> None:
    """Secret, serve, script; the URL is that of the domain, and its authority is known there."""
    laptop.works(f"flyte create secret API_KEY {KEY}")
    said = laptop.works("flyte serve basic_auth.py")
    url = said.rstrip().rpartition("🚀 Deployed Endpoint: ")[2].split()[0]
    assert url.startswith(f"https://{APP}.{DOMAIN}")
    assert f"API URL: {url}" in laptop.works("python basic_auth.py")
    asked = f"curl -sS --cacert ~/.flyte/flyted-ca.pem -w '%{{http_code}}' -o /dev/null {url}/protected"
    assert laptop.works(f"{asked} -H 'Authorization: Bearer {KEY}'") == "200"
    assert laptop.works(f"{asked} -H 'Authorization: Bearer wrong'") == "403"
    assert APP in laptop.works("flyte get app")


def test_flyte_without_the_companion(laptop: Laptop) -> None:
    """As far as the SDK goes by itself."""
    sh(UV, "pip", "uninstall", "--quiet", "--python", str(VENV), "flyted")
    source = (FOLDER / "basic_auth.py").read_text().replace("This is public", "This is public, too")
    (FOLDER / "basic_auth.py").write_text(source)
    laptop.works("flyte serve basic_auth.py env")
    assert "public, too" in laptop.works(
        f"curl -sS --cacert .flyte/flyted-ca.pem https://{APP}.{DOMAIN}:{laptop.port}/public"
    )


def test_strangers_get_nothing(laptop: Laptop) -> None:
    """No call without a token, no page, not the name that means their own machine."""
    json_ = ("-X", "POST", "-H", "Content-Type: application/json", "-d", "{}")
    assert laptop.status(API, RPC, *json_) == "401"
    assert laptop.status(API, RPC, *json_, "-H", "Authorization: Bearer flyted_" + "A" * 43) == "401"
    for path in (
        "/login",
        "/v2/x",
        "/logout",
        "/.flyted/session",
        "/flyteidl2.auth.AuthMetadataService/GetOAuth2Metadata",
    ):
        assert laptop.status(API, path) == laptop.status(API, path, *json_) == "401", path
    assert laptop.status(API) == "200"  # the authority's certificate
    assert laptop.status("flyted.localhost", RPC) == laptop.status(f"flyted.localhost.{DOMAIN}") == "421"
    assert laptop.status(API, "/upload/x", "-X", "PUT", "-d", "x") in {"400", "401", "403", "404"}
    forged = ("-H", "X-Flyted-Local: 1", "-H", "X-Flyted-Host: evil.example")
    assert laptop.status(API, RPC, *json_, *forged) == "401"


def test_it_ends_when_one_says_so(laptop: Laptop) -> None:
    """With the token, or for everybody."""
    alice("flytectl", "token", "revoke", "laptop")
    done = laptop.run("flyte get app")
    assert done.returncode not in {0, *ABORTED}
    assert "a valid token is required; on the machine of flyted: flytectl config init" in done.stdout + done.stderr
    sh("flytectl", "domain", "set", DOMAIN, "--no-api", "--yes")
    assert laptop.status(API, RPC) == "421"
