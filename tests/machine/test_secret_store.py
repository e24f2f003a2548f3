"""The secret store as installed: a sealed identity, recovery without flyted, damage and rollback as users see them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine.kit.users import Done, alice, answer, refused, until

STATE = Path("/var/lib/flyted")
SEALED = STATE / "identity.cred"
RECIPIENTS = Path("/etc/flyted/recipients.txt")
VALUE = "CANARY-7f3a91"


def root(*words: str, typed: str = "") -> Done:
    """Root's command; it must work."""
    done = subprocess.run(words, input=typed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def answers() -> bool:
    return subprocess.run(["flytectl", "version"], capture_output=True, check=False).returncode == 0


@contextmanager
def stopped() -> Iterator[None]:
    """flyted is down, its sockets too, and afterwards up again."""
    root("systemctl", "stop", "flyted.socket", "flyted-credentials.socket", "flyted.service")
    # five starts in ten seconds are no fault of the units here
    root("systemctl", "reset-failed", "flyted.socket", "flyted-credentials.socket", "flyted-setup.service")
    try:
        yield
    finally:
        root("systemctl", "start", "flyted.socket", "flyted-credentials.socket", "flyted.service")
        until(answers)


def setup_said() -> str:
    """What flyted-setup wrote, lately."""
    return root("journalctl", "-t", "flyted-setup", "-n", "20", "-o", "cat").stdout


def file_of(key: str) -> Path:
    (found,) = (STATE / "secrets").glob(f"{key}.*.age")
    return found


@pytest.fixture
def secret() -> Iterator[str]:
    """A secret of alice's, gone afterwards."""
    alice("flytectl", "secret", "create", "STORE_TEST", "-", "--replace", typed=VALUE)
    yield "STORE_TEST"
    alice("flytectl", "secret", "delete", "--yes", "STORE_TEST")


def damaged(key: str) -> bool:
    (found,) = (s for s in answer("secret", "ls")["secrets"] if s["key"] == key)
    return bool(found["damaged"])


def test_the_identity_is_sealed_under_its_name() -> None:
    """0600, root's; ``systemd-creds`` opens it as flyted-identity and as nothing else."""
    found = SEALED.stat()
    assert (found.st_mode & 0o7777, found.st_uid) == (0o600, 0)
    text = root("systemd-creds", "decrypt", "--name=flyted-identity", str(SEALED), "-").stdout
    assert text.startswith("AGE-SECRET-KEY-1")
    other = subprocess.run(["systemd-creds", "decrypt", "--name=other", SEALED, "-"], capture_output=True, check=False)
    assert other.returncode != 0


def test_nothing_is_in_the_clear(secret: str) -> None:
    """Neither the identity nor a value is in a file of the state, the settings, /run, or the journal."""
    for word in ("AGE-SECRET-KEY", VALUE):
        found = subprocess.run(
            ["grep", "-raFl", "--exclude-dir=credentials", word, STATE, "/etc", "/run"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert found.stdout == ""
        journal = root("journalctl", "-b", "-o", "json", "--all").stdout
        assert word not in journal


def test_setup_runs_once() -> None:
    """With an identity there it does nothing."""
    before = SEALED.read_bytes()
    root("systemctl", "start", "flyted-setup.service")
    assert SEALED.read_bytes() == before


def test_setup_is_confined() -> None:
    """Its score, live, with the TPM's device as the one thing left open."""
    root("systemd-analyze", "security", "--no-pager", "--threshold=12", "flyted-setup.service")


def test_an_operator_recovers_without_flyted(secret: str, tmp_path: Path) -> None:
    """A recovery key added after the secret: from the next start `age -d` prints the value, byte for byte."""
    key = tmp_path / "operator.txt"
    public = re.search(r"age1\w+", root("age-keygen", "-o", str(key)).stderr)
    assert public is not None
    RECIPIENTS.parent.mkdir(exist_ok=True)
    RECIPIENTS.write_text(f"# the operator's\n{public[0]}\n")
    RECIPIENTS.chmod(0o644)
    try:
        with stopped():
            copy = shutil.copy(file_of(secret), tmp_path / "before.age")
        assert subprocess.run(["age", "-d", "-i", key, copy], capture_output=True, check=False).returncode != 0
        assert root("age", "-d", "-i", str(key), str(file_of(secret))).stdout == VALUE
        alice("flytectl", "secret", "create", secret, "-", "--replace", typed=VALUE + "2")
        assert root("age", "-d", "-i", str(key), str(file_of(secret))).stdout == VALUE + "2"
    finally:
        RECIPIENTS.unlink()
        with stopped():
            pass


def test_a_private_key_among_the_recipients_stops_the_start(tmp_path: Path) -> None:
    """The journal says which line, and not the key."""
    key = tmp_path / "operator.txt"
    root("age-keygen", "-o", str(key))
    RECIPIENTS.parent.mkdir(exist_ok=True)
    shutil.copy(key, RECIPIENTS)
    RECIPIENTS.chmod(0o644)
    cursor = root("journalctl", "-n", "0", "--show-cursor", "-q").stdout.split("cursor: ")[1].strip()
    try:
        subprocess.run(["systemctl", "restart", "flyted.service"], capture_output=True, check=False)
        said = root("journalctl", "-u", "flyted.service", f"--after-cursor={cursor}", "-o", "cat").stdout
    finally:
        RECIPIENTS.unlink()
        with stopped():
            pass
    assert "recipients.txt, line 3: this is a private key" in said
    assert "AGE-SECRET-KEY-1" not in said
    assert "Traceback" not in said


def test_a_damaged_secret_is_shown_and_healed(secret: str) -> None:
    """One flipped bit: the list says so; storing it again is the way out."""
    file = file_of(secret)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert damaged(secret)
    assert "DAMAGED" in alice("flytectl", "secret", "ls").stdout
    alice("flytectl", "secret", "create", secret, "-", "--replace", typed=VALUE)
    assert not damaged(secret)


def test_an_older_store_waits_for_root(secret: str, tmp_path: Path) -> None:
    """Restored from a backup: refused with the command; alice may not give it, root may; then all is well."""
    shutil.copytree(STATE / "secrets", tmp_path / "backup")
    alice("flytectl", "secret", "create", secret, "-", "--replace", typed="newer")
    with stopped():
        for path in (STATE / "secrets").iterdir():
            path.unlink()
        for path in (tmp_path / "backup").iterdir():
            shutil.copy2(path, STATE / "secrets")
    try:
        said = refused("flytectl", "secret", "ls", status=9)
        assert "older than it should be" in said
        assert "flytectl secret accept-rollback" in said
        refused("flytectl", "secret", "create", "OTHER", "value", status=9)
        refused("flytectl", "secret", "accept-rollback", status=6)
    finally:
        root("flytectl", "secret", "accept-rollback")
    assert not damaged(secret)
    with stopped():
        pass
    assert not damaged(secret)


def test_a_lost_identity_is_not_replaced(secret: str, tmp_path: Path) -> None:
    """With secrets there, setup refuses to make another, so flyted does not start; restored, all is well."""
    with stopped():
        moved = shutil.move(SEALED, tmp_path / "identity.cred")
        try:
            failed = subprocess.run(["systemctl", "start", "flyted.service"], capture_output=True, check=False)
            assert failed.returncode != 0
            assert not SEALED.exists()
            until(lambda: "identity.cred is gone: a new identity could not open them" in setup_said())
            assert "from a backup (man 8 flyted, RECOVERY)" in setup_said()
        finally:
            shutil.move(moved, SEALED)
            root("systemctl", "reset-failed")
    assert not damaged(secret)
