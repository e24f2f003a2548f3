"""A machine that lost its database, its identity, or what that is sealed with: apps go on, the way back is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine.kit.apps import serve
from tests.machine.kit.users import alice, by, curl, refused

APP = "survivor"
STATE = Path("/var/lib/flyted")
SEALED_WITH = Path("/var/lib/systemd/credential.secret")
SOCKETS = ("flyted.socket", "flyted-credentials.socket", "flyted-api.socket")


def systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    """Its status is for the caller to judge."""
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False, timeout=60)


def restarts() -> int:
    """How often systemd has started the daemon again by itself."""
    return int(systemctl("show", "-P", "NRestarts", "flyted").stdout)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An app that runs, and a secret."""
    served = serve(APP)
    alice("flytectl", "secret", "create", "KEPT", "-", "--replace", typed="value")
    yield served
    by("alice", "flytectl", "secret", "delete", "--yes", "KEPT")
    by("alice", "flytectl", "app", "delete", "--yes", "--data", APP)


@contextmanager
def without(path: Path, tmp_path: Path, put: bytes | None = None, *, start: bool = True) -> Iterator[None]:
    """The daemon is stopped, a file taken away (and another put there), then it is started; at the end all is back.

    At the end it runs again unless ``start`` is False.
    flyted-setup is stopped by name: one that a start brought on goes on when that start is cancelled, and would look
    at the file that is not back yet.
    """
    systemctl("stop", *SOCKETS, "flyted", "flyted-setup")
    kept = tmp_path / path.name
    shutil.move(path, kept)
    try:
        if put is not None:
            path.write_bytes(put)
            path.chmod(0o600)
        yield
    finally:
        systemctl("stop", *SOCKETS, "flyted", "flyted-setup")
        path.unlink(missing_ok=True)
        shutil.move(kept, path)
        if start:
            assert systemctl("start", "flyted").returncode == 0


def told(url: str, *words: str) -> None:
    """The start fails at once and is not repeated; every command says why at once; the app serves on."""
    assert systemctl("start", "flyted").returncode != 0
    before = restarts()
    for command in (["app", "ls"], ["secret", "ls"]):
        began = time.monotonic()
        said = refused("flytectl", *command, status=7)
        assert time.monotonic() - began < 14, "it was 15 s, since nobody but systemd knew why"
        assert all(word in said for word in ("it cannot start: ", *words)), said
    assert words[0] in by("alice", "flytectl", "doctor").stdout
    assert curl(url)[0] == 200
    assert restarts() == before


def whole(url: str) -> None:
    """Nothing is lost."""
    assert curl(url)[0] == 200
    assert APP in alice("flytectl", "app", "ls").stdout
    assert "KEPT" in alice("flytectl", "secret", "ls").stdout


@pytest.mark.parametrize("put", [None, b"", b"random" * 1000], ids=["missing", "empty", "damaged"])
def test_a_lost_database_is_not_taken_for_a_new_machine(url: str, tmp_path: Path, put: bytes | None) -> None:
    """Missing, empty or damaged."""
    with without(STATE / "flyted.db", tmp_path, put):
        told(url, "flyted.db", "sudo flyted --new-database")
    whole(url)


def test_a_database_of_another_owner_is_named(url: str) -> None:
    """As a restored backup may have it: the disk has room, and the daemon is not started again and again."""
    systemctl("stop", *SOCKETS, "flyted", "flyted-setup")
    shutil.chown(STATE / "flyted.db", "alice")
    try:
        told(url, "flyted may not open", "flyted.db", "chown 0:0")
    finally:
        shutil.chown(STATE / "flyted.db", "root")
        systemctl("start", "flyted")
    whole(url)


def test_a_key_that_is_sealed_with_something_else_is_named(url: str, tmp_path: Path) -> None:
    """As after a move to another machine; with what it was sealed with back, the next start opens it."""
    with without(SEALED_WITH, tmp_path):
        told(url, "this machine cannot open the key of its secrets", "sudo flyted --new-identity")
        assert (STATE / "identity.refused").exists()
    whole(url)
    assert not (STATE / "identity.refused").exists()


def test_a_fifo_in_place_of_the_key_hangs_nobody(url: str, tmp_path: Path) -> None:
    """It is put aside like anything else that does not open."""
    with without(STATE / "identity.cred", tmp_path):
        os.mkfifo(STATE / "identity.cred", 0o600)
        told(url, "this machine cannot open the key of its secrets")
    (STATE / "identity.refused").unlink()
    whole(url)


def test_secrets_are_given_up_and_apps_stay(url: str, tmp_path: Path) -> None:
    """The operator's word on a restored machine: apps serve, secrets are stored anew. (Then all is put back.)"""
    for name in ("secrets", "generation", "identity.cred"):
        subprocess.run(["cp", "-a", STATE / name, tmp_path], check=True)
    try:
        with without(SEALED_WITH, tmp_path, start=False):
            told(url, "this machine cannot open")
            done = subprocess.run(["flyted", "--new-identity"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "next: systemctl restart flyted" in done.stderr
            assert systemctl("restart", "flyted").returncode == 0
            assert APP in alice("flytectl", "app", "ls").stdout
            assert alice("flytectl", "secret", "ls").stdout == ""
            assert alice("curl", "-skS", url).returncode == 0
    finally:
        systemctl("stop", *SOCKETS, "flyted", "flyted-setup")
        shutil.rmtree(STATE / "secrets")
        shutil.rmtree(STATE / "lost-1", ignore_errors=True)
        for name in ("secrets", "generation", "identity.cred"):
            subprocess.run(["cp", "-a", tmp_path / name, STATE], check=True)
        systemctl("restart", *SOCKETS, "flyted")
    whole(url)
