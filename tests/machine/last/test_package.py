"""The package over its life: upgrade cuts nothing, remove keeps the user's things, purge keeps none."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.machine.kit import users
from tests.machine.kit.apps import serve, write
from tests.machine.kit.freezers import until_frozen
from tests.machine.kit.users import alice, answer, curl, may_serve, until

OURS = ("flyted.service", "flyted-ingress.service", "flyted-app-package-r1-0.service")


def sh(*words: str) -> str:
    """A command of root's that must work; what it said, both streams."""
    done = subprocess.run(
        words, text=True, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.stdout}"
    return done.stdout


def deb() -> str:
    """The package of this release, as tests/run built it."""
    release = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
    assert release is not None
    (found,) = Path(__file__).parents[3].glob(f"build/{release[1]}/flyted_*.deb")
    return str(found)


def pids() -> dict[str, str]:
    return {unit: sh("systemctl", "show", "--value", "--property=MainPID", unit).strip() for unit in OURS}


@pytest.fixture(scope="module", autouse=True)
def alice_may_serve() -> None:
    """As for every module, with the package installed again where the purge is run again."""
    sh("apt-get", "install", "-y", deb())
    may_serve()


@pytest.fixture
def url() -> str:
    """An app that serves, and a secret; the package is installed again if a test has removed it."""
    sh("apt-get", "install", "-y", deb())
    may_serve()
    alice("flytectl", "secret", "create", "KEPT", "-", "--replace", typed="a value to keep")
    return serve("package")


def test_an_upgrade_restarts_the_daemon_only(url: str) -> None:
    """New code runs in flyted; the apps and the ingress are the processes that they were, and answer."""
    assert curl(url)[0] == 200
    before = pids()
    sh("apt-get", "install", "-y", "--reinstall", deb())
    after = pids()
    assert curl(url)[0] == 200
    assert after["flyted.service"] not in (before["flyted.service"], "0")
    assert {u: p for u, p in after.items() if u != "flyted.service"} == {
        u: p for u, p in before.items() if u != "flyted.service"
    }


def test_what_the_admin_disabled_stays_disabled() -> None:
    """An upgrade does not enable a unit again that somebody disabled."""
    sh("systemctl", "disable", "flyted-ingress.service")
    try:
        sh("apt-get", "install", "-y", "--reinstall", deb())
        done = subprocess.run(["systemctl", "is-enabled", "flyted-ingress.service"], capture_output=True, check=False)
        assert done.stdout.strip() == b"disabled"
    finally:
        sh("systemctl", "enable", "flyted-ingress.service")


def test_remove_stops_all_and_keeps_what_is_yours(url: str) -> None:
    """No process, socket or unit is left; secrets and apps are, and a new installation finds them."""
    frozen = users.serve(write("package-frozen", scaledown=1), "--idle", "freeze")
    assert curl(frozen)[0] == 200  # it sleeps if this has been done before
    until_frozen("package-frozen")
    said = sh("apt-get", "remove", "-y", "flyted")
    assert "timed out" not in sh("journalctl", "-q", "-b", "-u", "flyted-app-package-frozen*", "-o", "cat")
    assert "stay in /var/lib/flyted" in said
    # without --all: Debian masks the units of a package that is removed and not purged
    assert sh("systemctl", "list-units", "--no-legend", "--plain", "flyted*").strip() == ""
    assert not Path("/run/flyted").exists()
    assert not Path("/usr/lib/flyted").exists()
    assert list(Path("/var/lib/flyted/secrets").rglob("*.age"))
    sh("apt-get", "install", "-y", deb())
    until(lambda: curl(url)[0] == curl(frozen)[0] == 200)
    assert "KEPT" in {secret["key"] for secret in answer("secret", "ls")["secrets"]}


def test_purge_says_what_it_deletes_and_deletes_it(url: str) -> None:
    """The message names secrets before they go; then nothing of ours is left but user and group."""
    assert url
    secrets = len(answer("secret", "ls", "--all")["secrets"])
    subprocess.run(["umount", "/var/lib/flyted/layers"], check=False)  # tests/machine/boot has made it a mount
    said = sh("apt-get", "purge", "-y", "flyted")
    assert secrets > 0
    found = rf"permanently deleting the data of [1-9]\d* app\(s\) \(\S+\), {secrets} secret\(s\), "
    assert re.search(found, said), said
    assert sh("systemctl", "list-units", "--all", "--no-legend", "--plain", "flyted*").strip() == ""
    left = sh(
        "find", "/etc", "/usr", "/var/lib", "/var/cache", "/var/log", "/run", "-xdev",
        "-not", "-path", "/run/flyted-*", "-name", "*flyt*", "-print",
    ).split()  # fmt: skip
    # dpkg's and apt's notes, logs, and what PID 1 keeps about units of this boot are not ours
    theirs = ("/var/lib/dpkg", "/var/lib/apt", "/var/log/", "/run/systemd/units/")
    assert [p for p in left if not p.startswith(theirs)] == []
    bundle = subprocess.run(["curl", "-sS", url], capture_output=True, text=True, check=False)
    assert bundle.returncode != 0
