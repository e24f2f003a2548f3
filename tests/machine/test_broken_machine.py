"""A daemon that is down, ports that are taken, a full disk, the wrong user: each is told, and nothing is lost."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine.kit.bad_input import file, secret
from tests.machine.kit.settings import settings
from tests.machine.kit.units import must
from tests.machine.kit.users import alice, answer, by, curl, environment, forget_tokens, give, refused, serve, until

pytestmark = pytest.mark.usefixtures("no_apps_left")


@pytest.fixture(scope="module")
def served() -> str:
    """An app that serves while something goes wrong around it; its URL."""
    return serve(file(answer="old"))


@pytest.mark.usefixtures("unchanged")
def test_who_is_not_in_the_group_changes_nothing() -> None:
    """Every verb that mallory tries: refused, with the same advice."""
    for words in (
        ["app", "ls"],
        ["app", "delete", "--yes", "--data", "bad"],
        ["secret", "create", "X", "y"],
        ["secret", "ls"],
        ["ca", "show"],
    ):
        assert "only members of group 'flyted'" in refused("flytectl", *words, status=6, user="mallory")


def test_a_daemon_that_is_down_is_explained_by_systemd(served: str) -> None:
    """Stopped on purpose: what systemd says of it; apps go on serving meanwhile."""
    must("systemctl", "stop", "flyted.socket", "flyted.service")
    try:
        said = refused("flytectl", "app", "ls", status=7)
        assert "systemd says flyted.service is inactive (dead)" in said
        assert "hint: sudo systemctl start flyted" in said
        assert curl(served)[0] == 200
        assert by("alice", "flytectl", "doctor").returncode == 1
    finally:
        must("systemctl", "start", "flyted.socket", "flyted.service")


def test_a_daemon_that_cannot_start_is_explained(served: str) -> None:
    """A broken setting: the command does not hang but names it, as the journal does."""
    with settings("[ingress]\nhttps_prot = 1"):
        said = refused("flytectl", "app", "ls", status=7)
        assert "it cannot start: " in said
        assert "there is no setting 'ingress.https_prot'" in said
        journal = subprocess.run(
            ["journalctl", "-u", "flyted", "-n", "20"], capture_output=True, text=True, check=True
        )
        assert "there is no setting 'ingress.https_prot'" in journal.stdout
        assert curl(served)[0] == 200


def test_a_daemon_of_another_version_is_named() -> None:
    """After half an upgrade: both versions, and what to restart; serve does not begin."""
    version = Path("/usr/lib/flyted/flyted/contract/version.py")
    before = version.read_text()
    version.write_text(re.sub(r'VERSION = ".*"', 'VERSION = "99.0"', before))
    try:
        for words in (["serve", file()], ["version"]):
            said = by("alice", "flytectl", *words)
            assert said.returncode == 7
            assert "this is flytectl 99.0, the daemon is flyted" in said.stderr
            assert "hint: sudo systemctl restart flyted" in said.stderr
    finally:
        version.write_text(before)


def stop_all() -> None:
    """One after the other, the daemon first: it would start the ingress that stops, and that the daemon again.

    With its sockets: whoever asks it something meanwhile, such as the gateway, would start it too.
    """
    must("systemctl", "stop", "flyted.socket", "flyted-credentials.socket", "flyted-api.socket", "flyted")
    must("systemctl", "stop", "flyted-ingress.socket", "flyted-ingress")  # else the next connection starts it again


def test_ports_that_are_taken_are_replaced_and_said() -> None:
    """Somebody else has 443: another port is used, the URL has it, and doctor says so."""
    stop_all()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 443))
        other.listen()
        must("systemctl", "start", "flyted", "flyted-ingress")
        url = serve(file(answer="old"))
        assert re.search(r":\d+$", url)
        assert curl(url)[0] == 200
        found = {check["name"]: check for check in answer("doctor")["checks"]}
        assert found["ingress"]["ok"] is None
        assert url.rpartition(":")[2] in found["ingress"]["detail"]
    stop_all()
    must("systemctl", "start", "flyted", "flyted-ingress")
    until(lambda: curl(str(answer("app", "get", "bad")["url"]))[0] == 200)
    assert not re.search(r":\d+$", str(answer("app", "get", "bad")["url"]))


@contextmanager
def small_disk() -> Iterator[Path]:
    """The daemon's state on a disk of a few MiB, without the images that other tests have left."""
    state = Path("/var/lib/flyted")
    must("systemctl", "stop", "flyted.socket", "flyted.service")
    copy = Path("/run/small-disk")
    large = shutil.ignore_patterns("images", "bundles", "layers", "blobs", "roots")
    shutil.copytree(state, copy, ignore=large, symlinks=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=711", "tmpfs", state], check=True)
    try:
        subprocess.run(["cp", "-a", f"{copy}/.", state], check=True)
        (state / "bundles").mkdir(mode=0o711)
        (state / "images").mkdir(mode=0o755)
        must("systemctl", "start", "flyted.socket", "flyted.service")
        yield state
    finally:
        must("systemctl", "stop", "flyted.socket", "flyted.service")
        subprocess.run(["umount", state], check=True)
        shutil.rmtree(copy)
        must("systemctl", "start", "flyted.socket", "flyted.service")


def fill(disk: Path) -> None:
    """Until not a byte more fits."""
    with (disk / "filler").open("ab", buffering=0) as filler, pytest.raises(OSError, match="No space"):
        while True:
            filler.write(b"x" * 4096)


def test_a_full_disk_can_be_freed() -> None:
    """An app, a secret and a token are deleted without a byte left, even if flyted is restarted; nothing new fits."""
    forget_tokens("leaving")
    url = serve(file(name="leaving"))
    alice("flytectl", "app", "stop", "leaving")
    alice("flytectl", "token", "create", "--name", "leaving")
    with secret("LEAVING", "v"):
        with small_disk() as state:
            fill(state)
            must("systemctl", "restart", "flyted")
            fill(state)
            refused("flytectl", "secret", "create", "MORE", "-", typed="y" * 65536, status=9)
            alice("flytectl", "secret", "delete", "--yes", "LEAVING")
            alice("flytectl", "token", "revoke", "leaving")
            fill(state)
            alice("flytectl", "app", "delete", "--yes", "--data", "leaving")
            assert [a["name"] for a in answer("app", "ls")["apps"] if a["name"] == "leaving"] == []
            assert [s["key"] for s in answer("secret", "ls")["secrets"] if s["key"] == "LEAVING"] == []
            assert [t["name"] for t in answer("token", "ls")["tokens"] if t["name"] == "leaving"] == []
            assert curl(url)[0] == 421
        alice("flytectl", "app", "delete", "--yes", "--data", "leaving")  # of the disk that was there before
        alice("flytectl", "token", "revoke", "leaving")


def test_a_full_disk_keeps_the_old_value() -> None:
    """No room: the error says so, and the secret is the one from before."""
    for app in answer("app", "ls", "--all")["apps"]:
        alice("flytectl", "app", "delete", "--yes", "--data", app["name"])
    with secret("KEPT", "before"), small_disk() as state:
        before = answer("secret", "ls", "--all")
        fill(state)
        said = refused("flytectl", "secret", "create", "KEPT", "-", "--replace", typed="y" * 65536, status=9)
        assert "disk full: secret 'KEPT'" in said
        (state / "filler").unlink()
        assert answer("secret", "ls", "--all") == before
        found = json.loads(by("alice", "flytectl", "doctor", "--json").stdout)["checks"]
        assert {c["name"]: c["ok"] for c in found}.items() >= {"secret store": True, "disk": False}.items()


def test_root_is_not_a_user() -> None:
    """Plain root imports nobody's file; under sudo it is alice who imports hers."""
    done = subprocess.run(["flytectl", "serve", "/home/alice/bad/app.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert "--as USER" in done.stderr
    give("bad/app.py", "import os, pathlib\npathlib.Path('/tmp/who').write_text(str(os.getuid()))\n")
    by("alice", "sudo", "flytectl", "serve", "bad/app.py")
    assert Path("/tmp/who").read_text() == str(Path("/home/alice").stat().st_uid)
    assert environment("alice")["HOME"] == "/home/alice"
