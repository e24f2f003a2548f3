"""A new identity for the store: all or nothing, killed wherever it may be; afterwards the old one opens nothing."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from flyted.contract.errors import Busy, FlytedError, HostFailure, StoreCorrupt
from flyted.host import age, identity, recipients, rotation
from flyted.host.age import Identity
from flyted.host.private_dir import PrivateDir
from flyted.host.vault import Vault
from tests.host.deaths import each_death, forks
from tests.host.vaults import MACHINE, OPERATOR, ORG, PROJECT, files, opened, secret_file, state_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.slow, forks]
NEW = Identity(hashlib.sha256(b"flyted test machine, later").digest())
LATER = Identity(hashlib.sha256(b"flyted test operator, later").digest())
SEALS = {b"sealed old": MACHINE, b"sealed new": NEW}  # what systemd-creds would make of them
WANTED = {"A": b"a", "B": b"b" * 70_000, "PROJECT": b"p", "ca-key": b"internal"}


@pytest.fixture
def folder(scratch: Path) -> Path:
    """A store with secrets of two scopes and one of the daemon's own, some of them replaced."""
    folder = state_folder(scratch)
    (folder / "identity.cred").write_bytes(b"sealed old")
    (folder / "identity.cred").chmod(0o600)
    vault = opened(folder, OPERATOR)
    for _ in range(2):
        vault.put(ORG, "A", WANTED["A"], replace=True)
        vault.put(ORG, "B", WANTED["B"], replace=True)
    vault.put(PROJECT, "A", WANTED["PROJECT"], replace=False)
    vault.put_internal("ca-key", WANTED["ca-key"])
    vault.close()
    return folder


def rotate(folder: Path) -> None:
    rotation.rotate(folder, MACHINE, NEW, b"sealed new", [OPERATOR.recipient])


def finish(folder: Path) -> bool:
    """The next start of ``flyted-rotate.service``."""
    state = PrivateDir.open(folder, forbidden=0o022)
    try:
        return rotation.finish(state)
    finally:
        state.close()


def identity_of(folder: Path) -> Identity:
    return SEALS[(folder / "identity.cred").read_bytes()]


def content(folder: Path, with_identity: Identity) -> dict[str, bytes]:
    """All values; the store is sound, and nothing else is in the folder than its parts."""
    vault = Vault.open(folder, with_identity, [OPERATOR.recipient])
    assert vault.refusal is None
    assert not any(i.damaged for i in vault.list())
    found = {
        "A": vault.get(ORG, "A"), "B": vault.get(ORG, "B"), "PROJECT": vault.get(PROJECT, "A"),
        "ca-key": vault.get_internal("ca-key"),
    }  # fmt: skip
    vault.close()
    assert {p.name for p in folder.iterdir()} == {"secrets", "generation", "identity.cred"}
    assert len(files(folder)) == len(WANTED) + 1
    return found


def test_every_file_opens_with_the_new_keys_only(folder: Path) -> None:
    """The new identity and today's operators open each file, those from before none; no old file is left."""
    before = files(folder)
    rotation.rotate(folder, MACHINE, NEW, b"sealed new", [LATER.recipient])
    assert files(folder) & before == {"manifest"}
    for path in (folder / "secrets").glob("*.age"):
        assert age.decrypt(path.read_bytes(), NEW) == age.decrypt(path.read_bytes(), LATER)
        for gone in (MACHINE, OPERATOR):
            with pytest.raises(age.AgeError):
                age.decrypt(path.read_bytes(), gone)
    assert content(folder, NEW) == WANTED


def test_what_is_known_of_a_secret_stays(folder: Path) -> None:
    """Dates and sizes; the generation goes on, so that the store from before is an older one."""
    vault = opened(folder, OPERATOR)
    before = {(i.scope, i.key): (i.created, i.updated, i.size) for i in vault.list()}
    newest = max(i.generation for i in vault.list())
    vault.close()
    rotate(folder)
    vault = Vault.open(folder, NEW, [OPERATOR.recipient])
    assert {(i.scope, i.key): (i.created, i.updated, i.size) for i in vault.list()} == before
    assert all(i.generation > newest for i in vault.list())
    assert vault.stale == 0
    assert int((folder / "generation").read_text()) == vault.list()[0].generation
    vault.close()


def test_the_manifest_is_keyed_anew(folder: Path) -> None:
    """The old identity cannot vouch for the new store, nor the new one for a copy of the old."""
    copy = (folder / "secrets/manifest").read_bytes()
    rotate(folder)
    vault = opened(folder, OPERATOR)
    assert isinstance(vault.refusal, StoreCorrupt)
    vault.close()
    (folder / "secrets/manifest").write_bytes(copy)
    vault = Vault.open(folder, NEW, [])
    assert "another machine's identity" in (vault.refusal.message if vault.refusal else "")
    vault.close()


def test_killed_at_any_step_all_is_old_or_all_is_new(folder: Path, scratch: Path) -> None:
    """And never goes back; the start after it finds a sound store that exactly one identity opens."""
    seen = []
    for copy in each_death(folder, scratch, rotate):
        finish(copy)
        now = identity_of(copy)
        other = NEW if now is MACHINE else MACHINE
        assert content(copy, now) == WANTED
        for path in (copy / "secrets").glob("*.age"):
            with pytest.raises(age.AgeError):
                age.decrypt(path.read_bytes(), other)
        seen.append(now is NEW)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (False, True)
    assert len(seen) > 40


def test_killed_while_finishing_it_finishes(folder: Path, scratch: Path) -> None:
    """After the commit there is only one way, however often it is cut off; meanwhile no daemon gets at the store."""
    unfinished = 0
    for number, first in enumerate(each_death(folder, scratch, rotate)):
        if not (first / "rotated").exists():
            continue
        unfinished += 1
        for with_identity in (MACHINE, NEW):
            with pytest.raises(HostFailure, match="not finished"):
                Vault.open(first, with_identity, [])
        if not (first / "secrets").exists():  # as systemd-tmpfiles does at boot
            (first / "secrets").mkdir(mode=0o700)
        again = scratch / f"again-{number}"
        again.mkdir()
        for second in each_death(first, again, finish):
            finish(second)
            assert identity_of(second) is NEW
            assert content(second, NEW) == WANTED
    assert unfinished > 5


@pytest.mark.parametrize("spoil", ["damaged", "unlisted", "tampered", "in use", "no room"])
def test_what_cannot_be_whole_is_not_begun(folder: Path, spoil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged secret, files of a rollback, a manifest of others, a running daemon, a full disk: nothing changes."""
    if spoil == "damaged":
        secret_file(folder, "A").write_bytes(b"x")
    elif spoil == "unlisted":
        (folder / "secrets/A.1.age.unlisted").write_bytes(b"x")
    elif spoil == "tampered":
        (folder / "secrets/manifest").write_bytes(b"{}\n")
    holder = opened(folder, OPERATOR) if spoil == "in use" else None
    if spoil == "no room":
        writes = iter(range(3))

        def full(fd: int) -> None:
            if next(writes, None) is None:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(FlytedError) as caught:
        rotate(folder)
    errors = {"in use": Busy, "unlisted": HostFailure, "no room": HostFailure}
    assert type(caught.value) is errors.get(spoil, StoreCorrupt)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert not (folder / "rotating").exists()
    if holder is not None:
        holder.close()


def fails_at(monkeypatch: pytest.MonkeyPatch, when: Callable[[], bool]) -> None:
    """A disk that fails at each flush for which ``when`` holds."""
    flush = os.fsync

    def fsync(fd: int) -> None:
        if when():
            raise OSError(5, "Input/output error")
        flush(fd)

    monkeypatch.setattr(os, "fsync", fsync)


def test_an_error_after_the_commit_says_that_it_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that nothing was done: the next start finishes it."""
    with monkeypatch.context() as disk:
        fails_at(disk, (folder / "rotated").exists)
        with pytest.raises(HostFailure, match=r"not finished; flyted continues .*: Input/output error"):
            rotate(folder)
    assert (folder / "rotated").exists()
    assert finish(folder)
    assert (identity_of(folder), content(folder, NEW)) == (NEW, WANTED)


def test_a_rotation_that_was_cut_off_tells_the_new_public_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The start that finishes it is the only one that can: the one before did not come so far."""
    monkeypatch.setattr(identity, "STATE", folder)
    monkeypatch.setattr(identity, "unseal", lambda sealed: SEALS[sealed])
    with monkeypatch.context() as disk:
        fails_at(disk, (folder / "rotated").exists)
        with pytest.raises(HostFailure):
            rotate(folder)
    assert rotation.main() == 0
    assert str(NEW.recipient) in capsys.readouterr().err
    assert (identity_of(folder), content(folder, NEW)) == (NEW, WANTED)


def test_a_request_that_fails_is_not_carried_out_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody expects it any more."""
    vault = opened(folder, OPERATOR)
    with monkeypatch.context() as disk:
        fails_at(disk, (folder / "rotate").exists)
        with pytest.raises(HostFailure, match="was not started"):
            vault.ask_rotation()
    vault.close()
    assert not (folder / "rotate").exists()


def test_a_request_that_stays_is_not_carried_out_at_each_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that is a folder, or on a disk that gives nothing back."""
    monkeypatch.setattr(identity, "STATE", folder)
    monkeypatch.setattr(identity, "unseal", lambda sealed: SEALS[sealed])
    monkeypatch.setattr(identity, "seal", lambda _new: b"sealed new")
    (folder / "rotate").mkdir()
    assert rotation.main() == HostFailure.exit_status
    assert identity_of(folder) is MACHINE
    assert f"{folder}/rotate cannot be removed" in capsys.readouterr().err


@pytest.mark.parametrize("spoil", ["link", "mode", "gone"])
def test_a_sealed_identity_that_cannot_be_used_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spoil: str
) -> None:
    """By its path, with what to do."""
    monkeypatch.setattr(identity, "STATE", folder)
    (folder / "rotate").touch()
    sealed = folder / "identity.cred"
    if spoil == "mode":
        sealed.chmod(0o644)
    else:
        sealed.unlink()
    if spoil == "link":
        sealed.symlink_to("/dev/zero")
    assert rotation.main() == StoreCorrupt.exit_status
    said = capsys.readouterr().err
    assert said.startswith(f"{sealed} is ")
    assert "hint: restore it from a backup" in said


def test_what_another_rotation_left_is_not_mixed_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``replaced`` in it would say that the old store is out of the way."""
    (folder / "rotating/replaced").mkdir(parents=True)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    monkeypatch.setattr(PrivateDir, "remove_tree", lambda _self, _name: None)
    with pytest.raises(HostFailure, match="cannot be removed"):
        rotate(folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert not (folder / "rotated").exists()


def test_it_is_refused_when_it_is_asked_for(folder: Path) -> None:
    """The daemon says so before it is restarted in vain; a sound store leaves a wish and nothing else."""
    secret_file(folder, "B").unlink()
    vault = opened(folder, OPERATOR)
    with pytest.raises(StoreCorrupt, match="'B'"):
        vault.ask_rotation()
    assert not (folder / "rotate").exists()
    vault.delete(ORG, "B")
    vault.ask_rotation()
    assert (folder / "rotate").stat().st_mode & 0o777 == 0o600
    assert vault.recipient == MACHINE.recipient
    vault.close()
    opened(folder, OPERATOR).close()  # flyted starts, though the unit before it did not come so far
    assert not (folder / "rotate").exists()


def test_the_unit_does_what_was_asked_for_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a wish nothing; with one a new identity; a wish that fails is not tried again unasked."""
    monkeypatch.setattr(identity, "STATE", folder)
    monkeypatch.setattr(recipients, "PATH", folder.parent / "recipients.txt")
    made: list[Identity] = []

    def seal(new: Identity) -> bytes:
        made.append(new)
        return b"sealed new"

    monkeypatch.setattr(identity, "unseal", lambda sealed: {b"sealed old": MACHINE, b"sealed new": NEW}[sealed])
    monkeypatch.setattr(identity, "seal", seal)
    assert rotation.main() == 0
    assert identity_of(folder) is MACHINE
    vault = opened(folder, OPERATOR)
    vault.ask_rotation()
    vault.close()
    (folder.parent / "recipients.txt").write_text("nonsense\n")
    assert rotation.main() == 2
    assert not (folder / "rotate").exists()
    assert identity_of(folder) is MACHINE
    assert rotation.main() == 0
    assert identity_of(folder) is MACHINE
    (folder.parent / "recipients.txt").unlink()
    (folder / "rotate").touch()
    assert rotation.main() == 0
    assert (folder / "identity.cred").read_bytes() == b"sealed new"
    vault = Vault.open(folder, made[-1], [])
    assert (vault.refusal, vault.get(ORG, "A")) == (None, WANTED["A"])
    vault.close()
    said = capsys.readouterr()
    assert str(made[-1].recipient) in said.err
    assert "AGE-SECRET-KEY" not in said.err + said.out
