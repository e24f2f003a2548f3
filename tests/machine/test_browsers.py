"""The browsers' part of ``flytectl ca install``: NSS databases of who called it, proven by NSS and by Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.machine.kit.apps import serve
from tests.machine.kit.users import alice, answer, by, refused

HOME = Path("/home/alice")
FIREFOX = HOME / ".mozilla/firefox/abcd1234.default-release"
CHROMIUM = HOME / ".pki/nssdb"
STORES = (FIREFOX, CHROMIUM)
NICKNAME = "flyted local CA"
ANCHOR = "/usr/local/share/ca-certificates/flyted.crt"
CERTUTIL = Path("/usr/bin/certutil")


@pytest.fixture(scope="module", autouse=True)
def _browsers() -> Iterator[None]:
    """Alice has used both browsers: their databases are there, made by her."""
    for store in STORES:
        shutil.rmtree(store, ignore_errors=True)
        alice("mkdir", "-p", str(store))
        alice("certutil", "-N", "--empty-password", "-d", f"sql:{store}")
    yield
    for store in STORES:
        shutil.rmtree(store)
    alice("sudo", "flytectl", "ca", "install")  # other tests call apps by their names


@pytest.fixture(autouse=True)
def _nothing_installed() -> None:
    alice("sudo", "flytectl", "ca", "uninstall")


@pytest.fixture
def leaf() -> Iterator[Path]:
    """The certificate that the ingress shows for an app, in a file that alice may read."""
    url = serve("browsed")
    where = urlsplit(url)
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{where.port or 443}", "-servername", str(where.hostname)],
        input=b"", capture_output=True, check=True,
    )  # fmt: skip
    path = HOME / "leaf.pem"
    subprocess.run(["openssl", "x509", "-out", path], input=shown.stdout, check=True)
    path.chmod(0o644)
    yield path
    path.unlink()
    alice("flytectl", "app", "delete", "--yes", "--data", "browsed")


def knows(store: Path) -> bool:
    """Whether certutil finds the CA in a database, as alice."""
    return by("alice", "certutil", "-L", "-n", NICKNAME, "-d", f"sql:{store}").returncode == 0


def accepts(store: Path, leaf: Path) -> bool:
    """Whether a browser with this database would accept the certificate of a TLS server (``-u 1``)."""
    return "Chain is good!" in by("alice", "vfychain", "-d", f"sql:{store}", "-u", "1", "-a", str(leaf)).stderr


def test_browsers_trust_the_apps_until_it_is_undone(leaf: Path) -> None:
    """Both databases, named in the output; install may be repeated, uninstall too; the files stay alice's."""
    assert not any(accepts(store, leaf) for store in STORES)
    for _ in range(2):
        said = alice("sudo", "flytectl", "ca", "install").stdout
        assert [f"trusted: {store}" in said for store in STORES] == [True, True]
        assert [accepts(store, leaf) for store in STORES] == [True, True]
    owners = {path.owner() for store in STORES for path in [store, *store.iterdir()]}
    assert owners == {"alice"}

    said = alice("sudo", "flytectl", "ca", "uninstall").stdout
    assert [f"removed: {store}" in said for store in STORES] == [True, True]
    assert not any(knows(store) or accepts(store, leaf) for store in STORES)
    assert "removed" not in alice("sudo", "flytectl", "ca", "uninstall").stdout


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed: apt install chromium")
@pytest.mark.parametrize("started", [False, True])
def test_debians_chromium_trusts_the_apps(started: bool) -> None:
    """As a user does it, with nothing of NSS made by hand: before Chromium's first start, and after it."""
    url = serve("browsed")
    alice("rm", "-rf", ".local/share/pki", ".config/chromium")
    alice("mv", ".pki", "pki-made-by-hand")

    def seen() -> bool:
        words = ("--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom")
        return '"pid"' in by("alice", "chromium", *words, url).stdout

    try:
        if started:
            assert not seen()
        said = alice("sudo", "flytectl", "ca", "install").stdout
        assert f"trusted: {HOME}/.local/share/pki/nssdb (Chromium)" in said
        assert seen()
        found = {c["name"]: c for c in json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]}
        assert found["browsers"]["ok"] is True
        alice("sudo", "flytectl", "ca", "uninstall")
        assert not seen()
        found = {c["name"]: c for c in json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]}
        assert (found["browsers"]["ok"], found["browsers"]["hint"]) == (None, "sudo flytectl ca install")
    finally:
        alice("rm", "-rf", ".pki", ".local/share/pki", ".config/chromium")
        alice("mv", "pki-made-by-hand", ".pki")
        alice("flytectl", "app", "delete", "--yes", "--data", "browsed")


def test_every_browser_is_found_and_one_that_never_ran_is_named() -> None:
    """Snap, flatpak and the new place of Firefox's profiles; a browser without a profile is told to start first."""
    places = (
        "snap/chromium/current/.local/share/pki/nssdb", "snap/firefox/common/.mozilla/firefox/x.default",
        ".var/app/com.brave.Browser/data/pki/nssdb", ".var/app/org.mozilla.firefox/config/mozilla/firefox/y.default",
        ".config/mozilla/firefox/z.default",
    )  # fmt: skip
    for place in places:
        alice("mkdir", "-p", place)
        alice("certutil", "-N", "--empty-password", "-d", f"sql:{place}")
    try:
        said = alice("sudo", "flytectl", "ca", "install").stdout
        assert [place for place in places if f"trusted: {HOME / place}" not in said] == []
        assert all(knows(HOME / place) for place in places)
        alice("sudo", "flytectl", "ca", "uninstall")
        assert not any(knows(HOME / place) for place in places)
    finally:
        alice("rm", "-rf", "snap", ".var", ".config/mozilla")


def test_a_browser_that_goes_on_trusting_is_said() -> None:
    """certutil cannot change one database: what failed and why, a status of its own, and the others are done."""
    alice("sudo", "flytectl", "ca", "install")
    alice("chmod", "-R", "a-w", str(FIREFOX))
    try:
        done = by("alice", "sudo", "flytectl", "ca", "uninstall", "--json")
        assert done.returncode == 9
        assert json.loads(done.stdout)["removed"] == [ANCHOR, f"{CHROMIUM} (Chromium)"]
        assert f"certutil failed for {FIREFOX}: " in json.loads(done.stderr)["error"]
        assert [knows(store) for store in STORES] == [True, False]
        assert f"note: certutil failed for {FIREFOX}: " in alice("sudo", "flytectl", "ca", "install").stderr
    finally:
        alice("chmod", "-R", "u+w", str(FIREFOX))
    alice("sudo", "flytectl", "ca", "uninstall")
    assert not any(knows(store) for store in STORES)


def test_without_certutil_it_says_what_is_missing() -> None:
    """The system trusts it all the same; what browsers need is said, when it is undone too."""
    hidden = CERTUTIL.with_name("certutil.hidden")
    CERTUTIL.rename(hidden)
    try:
        for command in ("install", "uninstall"):
            done = alice("sudo", "flytectl", "ca", command)
            assert "alice's browsers" in done.stderr
            assert f"sudo apt install libnss3-tools && sudo flytectl ca {command}" in done.stderr
            assert (answer("ca", "show")["installed"] is not None) == (command == "install")
    finally:
        hidden.rename(CERTUTIL)
    assert not any(knows(store) for store in STORES)


def test_who_has_no_browser_hears_nothing_of_them() -> None:
    """Root itself, and a user without databases."""
    done = subprocess.run(["flytectl", "ca", "install"], capture_output=True, text=True, check=True)
    assert "browsers" not in done.stdout + done.stderr
    assert not any(knows(store) for store in STORES)


def test_a_link_in_a_home_does_not_make_root_write() -> None:
    """A database of root's behind a link in alice's home is not changed; the failure is told, the rest is done."""
    roots = Path("/var/lib/roots-nssdb")
    roots.mkdir()
    link = HOME / ".mozilla/firefox/linked"
    try:
        subprocess.run(["certutil", "-N", "--empty-password", "-d", f"sql:{roots}"], check=True)
        roots.chmod(0o755)
        for path in roots.iterdir():
            path.chmod(0o644)
        link.symlink_to(roots)
        before = {path.name: path.read_bytes() for path in roots.iterdir()}
        done = alice("sudo", "flytectl", "ca", "install")
        assert f"certutil failed for {link}: " in done.stderr
        assert f"trusted: {CHROMIUM}" in done.stdout
        assert {path.name: path.read_bytes() for path in roots.iterdir()} == before
    finally:
        link.unlink(missing_ok=True)
        shutil.rmtree(roots)


def test_the_browsers_trust_needs_root_too() -> None:
    """Nothing of it happens for a user who only asks."""
    refused("flytectl", "ca", "install", status=6)
    assert not any(knows(store) for store in STORES)
