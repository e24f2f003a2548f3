"""`sudo flytectl secret rotate` on a machine that serves; killed or not, one identity opens the secrets."""

from __future__ import annotations

import random
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flyted.contract import client
from tests.machine.kit.users import alice, answer, by, curl, give, refused, serve, until

STATE = Path("/var/lib/flyted")
RECIPIENTS = Path("/etc/flyted/recipients.txt")
UNIT = "flyted-rotate.service"
VALUE = "CANARY-5b21c8"
MANY = 150
APP = """import os
import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
def root() -> str:
    return os.environ["ROTATED"]

image = flyte.Image.from_debian_base(python_version=(3, 12)).with_pip_packages("fastapi", "uvicorn")
env = FastAPIAppEnvironment(name="rotating", app=app, image=image, requires_auth=False, secrets="ROTATED")
"""


def root(*words: str, typed: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, input=typed, capture_output=True, text=True, check=False)
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def identity() -> str:
    """This machine's, in the clear: for tests only root may do."""
    return root("systemd-creds", "decrypt", "--name=flyted-identity", str(STATE / "identity.cred"), "-").stdout


def opens(key: str, path: Path) -> bool:
    """Whether ``age`` opens a file with an identity, which goes through a pipe."""
    done = subprocess.run(["age", "-d", "-i", "-", path], input=key.encode(), capture_output=True, check=False)
    return done.returncode == 0


def secret_files() -> list[Path]:
    return sorted((STATE / "secrets").glob("*.age"))


def store(key: str, value: str) -> None:
    args = {"project": "", "domain": "", "key": key, "replace": True, "roll": False}
    client.call("secret.create", args, bulk=value.encode())


@pytest.fixture(scope="module", autouse=True)
def url() -> Iterator[str]:
    """An app that says its secret; its URL."""
    store("ROTATED", VALUE)
    yield serve(give("rotating/app.py", APP))
    alice("flytectl", "app", "delete", "--yes", "--data", "rotating")
    alice("flytectl", "secret", "delete", "--yes", "ROTATED")


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[str]:
    """A recovery key that is added now, and not known to the daemon that runs; the private half."""
    made = root("age-keygen")
    public = re.search(r"age1\w+", made.stdout)
    assert public is not None
    RECIPIENTS.write_text(f"{public[0]}\n")
    RECIPIENTS.chmod(0o644)
    yield made.stdout
    RECIPIENTS.unlink()
    root("systemctl", "restart", "flyted")


@contextmanager
def visited(url: str) -> Iterator[list[tuple[int, str]]]:
    """A visitor who asks again and again; what they got."""
    got: list[tuple[int, str]] = []
    stop = threading.Event()

    def visit() -> None:
        while not stop.is_set():
            got.append(curl(url))

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        until(lambda: bool(got))
        yield got
    finally:
        stop.set()
        visitor.join()


def test_a_rotation_leaves_nothing_to_the_old_key(url: str, operator: str) -> None:
    """The old identity opens no file any more, the new one and the operator of today do; apps never noticed."""
    old, before = identity(), secret_files()
    assert all(opens(old, path) for path in before)
    with visited(url) as got:
        said = alice("sudo", "flytectl", "secret", "rotate")
    public = re.search(r"new key, (age1\w+)", said.stdout)
    assert public is not None
    assert set(got) == {(200, f'"{VALUE}"')}
    new = identity()
    assert public[1] in root("age-keygen", "-y", typed=new).stdout
    after = secret_files()
    assert len(after) == len(before)
    assert not set(after) & set(before)
    for path in after:
        assert (opens(old, path), opens(new, path), opens(operator, path)) == (False, True, True)
    assert {p.name for p in STATE.iterdir()}.isdisjoint({"rotate", "rotating", "rotated"})
    alice("flytectl", "app", "stop", "rotating")
    alice("flytectl", "app", "start", "rotating")
    assert curl(url) == (200, f'"{VALUE}"')
    for word in (VALUE, "AGE-SECRET-KEY"):
        found = subprocess.run(
            ["grep", "-raFl", "--exclude-dir=credentials", word, STATE, "/etc", "/run"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert found.stdout == ""
        assert word not in root("journalctl", "-b", "-o", "json", "--all").stdout


def test_the_unit_is_confined() -> None:
    """Its score, live, with the TPM's device as the one thing left open."""
    root("systemd-analyze", "security", "--no-pager", "--threshold=12", UNIT)


def test_it_is_for_root() -> None:
    """A member of the group cannot."""
    before = identity()
    assert "requires root" in refused("flytectl", "secret", "rotate", status=6)
    assert identity() == before


def test_a_damaged_secret_is_named_and_nothing_is_done() -> None:
    """Before anything is stopped: what is to be stored again or deleted first."""
    store("SPOILT", "v")
    (path,) = STATE.glob("secrets/SPOILT.*.age")
    path.write_bytes(b"x")
    before, started = identity(), root("systemctl", "show", "-P", "InvocationID", "flyted").stdout
    assert "'SPOILT'" in root("flytectl", "secret", "rotate", status=9).stderr
    assert root("systemctl", "show", "-P", "InvocationID", "flyted").stdout == started
    alice("flytectl", "secret", "delete", "--yes", "SPOILT")
    assert identity() == before


def test_one_that_fails_changes_nothing_and_says_so() -> None:
    """Recipients that make no sense: flyted, which needs them too, does not start; mended, all is as it was."""
    before = identity()
    RECIPIENTS.write_text("nonsense\n")
    try:
        said = by("alice", "sudo", "flytectl", "secret", "rotate")
        assert said.returncode == 7
        assert "flyted-rotate" in said.stderr
    finally:
        RECIPIENTS.unlink()
        root("systemctl", "restart", "flyted")
    assert identity() == before
    assert not any(s["damaged"] for s in answer("secret", "ls", "--all")["secrets"])


def main_pid() -> str:
    return root("systemctl", "show", "-P", "MainPID", UNIT).stdout.strip()


def kill_a_rotation_after(seconds: float) -> None:
    client.call("secret.rotate")
    root("systemctl", "restart", "--no-block", "flyted.service")
    begun = time.monotonic()
    until(lambda: main_pid() != "0" or time.monotonic() > begun + 5)
    time.sleep(seconds)  # the moment is the point of it
    subprocess.run(["systemctl", "kill", "-s", "KILL", UNIT], capture_output=True, check=False)


CUT_OFF = """
import os
from flyted.host import rotation
rotation.finish = lambda state: os._exit(9) if "rotated" in state.names() else False
rotation.main()
"""
FAIL_ONCE = """
[Service]
ExecStartPre=/bin/sh -c 'test -e /var/lib/flyted/failed-once || { touch /var/lib/flyted/failed-once; exit 1; }'
"""


def test_what_was_cut_off_after_its_commit_is_finished(url: str) -> None:
    """Killed between store and identity, a reboot, a failure: flyted tries again until it has the new store."""
    before, dropin = identity(), Path(f"/run/systemd/system/{UNIT}.d/fail-once.conf")
    root("systemctl", "stop", "flyted.socket", "flyted-credentials.socket", "flyted-api.socket", "flyted.service")
    (STATE / "rotate").touch()
    root("python3", "-c", CUT_OFF, status=9)
    assert identity() == before
    assert (STATE / "rotated").is_dir()
    root("systemd-tmpfiles", "--create", "flyted.conf")
    dropin.parent.mkdir()
    dropin.write_text(FAIL_ONCE)
    root("systemctl", "daemon-reload")
    try:
        subprocess.run(["systemctl", "start", "flyted"], capture_output=True, check=False)
        until(lambda: by("alice", "flytectl", "version").returncode == 0)
        assert (STATE / "failed-once").exists()
        said = root("journalctl", "-u", "flyted", "-n", "50", "-o", "cat").stdout
        assert "a rotation of the identity is not finished" in said
    finally:
        dropin.unlink()
        dropin.parent.rmdir()
        (STATE / "failed-once").unlink(missing_ok=True)
        root("systemctl", "daemon-reload")
        root("systemctl", "start", "flyted.socket", "flyted-credentials.socket", "flyted-api.socket", "flyted.service")
    after = identity()
    for path in secret_files():
        assert (opens(before, path), opens(after, path)) == (False, True)
    assert {p.name for p in STATE.iterdir()}.isdisjoint({"rotate", "rotating", "rotated"})
    alice("flytectl", "app", "stop", "rotating")
    alice("flytectl", "app", "start", "rotating")
    assert curl(url) == (200, f'"{VALUE}"')


def test_killed_at_any_moment_everything_opens(url: str) -> None:
    """kill -9 of the unit: flyted comes back by itself, with the old identity or the new one, and all is swept."""
    for number in range(MANY):
        store(f"MANY_{number}", f"value {number}")
    begun = time.monotonic()
    root("flytectl", "secret", "rotate")
    whole = time.monotonic() - begun
    dice, ends = random.Random(7), []
    for turn in range(12):
        before = identity()
        kill_a_rotation_after(whole * (turn + dice.random()) / 12)
        until(lambda: by("alice", "flytectl", "version").returncode == 0)
        listed = answer("secret", "ls", "--all")["secrets"]
        assert not any(s["damaged"] for s in listed)
        assert len(listed) >= MANY
        after = identity()
        assert opens(after, secret_files()[0])
        assert opens(after, secret_files()[-1])
        if after != before:
            assert not opens(before, secret_files()[0])
        assert {p.name for p in STATE.iterdir()}.isdisjoint({"rotate", "rotating", "rotated"})
        ends.append(after != before)
    assert not all(ends)  # some were killed in time
    alice("flytectl", "app", "stop", "rotating")
    alice("flytectl", "app", "start", "rotating")
    assert curl(url) == (200, f'"{VALUE}"')
    root("flytectl", "secret", "rotate")
    for number in range(MANY):
        client.call("secret.delete", {"project": "", "domain": "", "key": f"MANY_{number}"})
