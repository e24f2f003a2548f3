"""The machine's identity: made once, sealed, given back by systemd; never in the clear in a file or an argument."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flyted.contract.errors import AlreadyExists, Busy, HostFailure, InvalidInput, StoreCorrupt
from flyted.host import identity, recipients
from flyted.host.age import Identity
from tests.host.vaults import MACHINE, opened, state_folder

if TYPE_CHECKING:
    from collections.abc import Callable

CREDS = Path("/usr/bin/systemd-creds")
needs_creds = pytest.mark.skipif(
    os.geteuid() != 0 or not CREDS.exists() or not Path("/run/systemd/system").exists(),
    reason="sealing makes a key for the host: only in the booted machine",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return state_folder(tmp_path)


def test_the_identity_comes_from_the_credentials(tmp_path: Path) -> None:
    """The file that systemd made from the sealed one, with or without a newline at its end."""
    for text in (MACHINE.reveal(), MACHINE.reveal() + "\n"):
        (tmp_path / "flyted-identity").write_text(text)
        assert identity.read({"CREDENTIALS_DIRECTORY": str(tmp_path)}).recipient == MACHINE.recipient


def test_without_credentials_it_says_how_to_get_them(tmp_path: Path) -> None:
    """Started by hand, or before setup: the hint is the command that helps."""
    with pytest.raises(HostFailure, match="not started by systemd") as by_hand:
        identity.read({})
    with pytest.raises(HostFailure, match="gave no identity") as no_file:
        identity.read({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert "systemctl start flyted" in by_hand.value.hint
    assert "journalctl -u flyted-setup" in no_file.value.hint


@pytest.mark.parametrize("spoil", [lambda t: t[:-2], lambda t: t + "X", lambda _: "", lambda _: "\udcff" * 9])
def test_a_broken_credential_is_refused_without_repeating_it(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    """Our error; no part of the key in it."""
    (tmp_path / "flyted-identity").write_bytes(spoil(MACHINE.reveal()).encode("ascii", "surrogateescape"))
    with pytest.raises(InvalidInput) as caught:
        identity.read({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert MACHINE.reveal()[20:40] not in str(caught.value)


def test_an_identity_is_never_replaced(folder: Path) -> None:
    """Setup leaves a sealed identity alone, whatever is in it."""
    (folder / "identity.cred").write_bytes(b"sealed")
    with pytest.raises(AlreadyExists):
        identity.setup(folder)
    assert (folder / "identity.cred").read_bytes() == b"sealed"


def test_a_store_that_lost_its_identity_gets_no_other(folder: Path) -> None:
    """A new identity could open none of the secrets: setup says what to restore, and makes nothing."""
    opened(folder).close()
    for gone in ("", "generation"):
        if gone:
            (folder / gone).unlink()
        with pytest.raises(StoreCorrupt, match=r"identity\.cred is gone") as caught:
            identity.setup(folder)
        assert "backup" in caught.value.hint
        assert not (folder / "identity.cred").exists()


def test_a_machine_that_cannot_seal_gets_no_identity(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd-creds missing, or failing: our error with its words, and no file."""
    for command, words in (("/nonexistent/systemd-creds", "did not run"), ("/bin/false", "failed")):
        monkeypatch.setattr(identity, "_CREDS", command)
        with pytest.raises(HostFailure, match=words):
            identity.setup(folder)
        assert list(folder.iterdir()) == []


def test_a_seal_that_does_not_open_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was sealed is unsealed before it is put in place: a key that cannot be had back is no key."""
    liar = tmp_path / "liar"
    liar.write_text("#!/bin/sh\ncat >/dev/null; echo sealed\n")
    liar.chmod(0o755)
    monkeypatch.setattr(identity, "_CREDS", str(liar))
    with pytest.raises(HostFailure, match="does not return"):
        identity.setup(folder)
    assert list(folder.iterdir()) == []


@needs_creds
def test_the_sealed_identity_opens_under_its_name_only(folder: Path) -> None:
    """0600; nothing in the clear in the folder; ``systemd-creds decrypt`` gives it back under its name alone."""
    made = identity.setup(folder)
    sealed = folder / "identity.cred"
    assert [p.name for p in folder.iterdir()] == ["identity.cred"]
    assert sealed.stat().st_mode & 0o777 == 0o600
    assert b"AGE-SECRET-KEY" not in sealed.read_bytes()
    command = [str(CREDS), "decrypt", "--name=flyted-identity", str(sealed), "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert Identity.parse(text).recipient == made.recipient
    command[2] = "--name=other"
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@needs_creds
def test_the_identity_is_in_no_argument(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Through the pipe alone: a wrapper writes down what systemd-creds was called with, and its environment."""
    spy = tmp_path / "spy"
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/said; env >>{tmp_path}/said; exec {CREDS} "$@"\n')
    spy.chmod(0o755)
    monkeypatch.setattr(identity, "_CREDS", str(spy))
    made = identity.setup(folder)
    said = (tmp_path / "said").read_text()
    assert "--with-key=auto" in said
    assert "AGE-SECRET-KEY" not in said
    assert made.reveal()[20:40] not in said


@needs_creds
def test_setup_speaks_without_secrets(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first call makes an identity, and warns that nobody else could open its secrets; the second does nothing."""
    monkeypatch.setattr(identity, "STATE", folder)
    monkeypatch.setattr(recipients, "PATH", folder / "none")
    assert identity.main() == 0
    said = capfd.readouterr()
    assert "age1" in said.err
    assert "no recovery key" in said.err
    assert "AGE-SECRET-KEY" not in said.err + said.out
    sealed = (folder / "identity.cred").read_bytes()
    assert identity.main() == 0
    assert (folder / "identity.cred").read_bytes() == sealed


class Creds:
    """A stand-in for systemd-creds whose seals open while their key is there, as with credential.secret or a TPM."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._key = folder / "key"
        self.have("one")
        program = folder / "creds"
        program.write_text(
            f'#!/bin/sh\nk=$(cat {self._key})\ncase $1 in encrypt) echo "$k"; exec cat;; esac\n'
            'read -r with; [ "$with" = "$k" ] || { echo "Bad message" >&2; exit 1; }; exec cat\n'
        )
        program.chmod(0o755)
        monkeypatch.setattr(identity, "_CREDS", str(program))

    def have(self, key: str) -> None:
        """From now on the machine has this key."""
        self._key.write_text(key)


@pytest.fixture
def creds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Creds:
    """In place of systemd's."""
    return Creds(tmp_path, monkeypatch)


def test_an_identity_that_does_not_open_is_put_aside_until_it_does(folder: Path, creds: Creds) -> None:
    """A key or TPM that is gone may be back; one restored beside it counts first, and none is ever written over."""
    assert not identity.keep_what_opens(folder)
    identity.setup(folder)
    sealed = (folder / "identity.cred").read_bytes()
    assert identity.keep_what_opens(folder)
    creds.have("another")
    for _ in range(2):
        assert not identity.keep_what_opens(folder)
        assert [path.name for path in folder.iterdir()] == ["identity.refused"]
    (folder / "identity.cred").write_bytes(b"one\nof another machine")
    (folder / "identity.cred").chmod(0o600)
    assert not identity.keep_what_opens(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["identity.refused", "identity.refused.2"]
    creds.have("one")
    assert identity.keep_what_opens(folder)
    assert (folder / "identity.cred").read_bytes() == sealed


@pytest.mark.parametrize("what", ["fifo", "link", "folder", "readable"])
def test_what_is_no_sealed_identity_is_put_aside_and_hangs_nobody(folder: Path, creds: Creds, what: str) -> None:
    """systemd would wait at a FIFO for ever."""
    path = folder / "identity.cred"
    match what:
        case "fifo":
            os.mkfifo(path, 0o600)
        case "link":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case _:
            path.write_bytes(b"one\n" + MACHINE.reveal().encode())
            path.chmod(0o644)
    assert not identity.keep_what_opens(folder)
    assert not path.exists()
    assert (folder / "identity.refused").lstat()


def test_secrets_that_nobody_can_open_are_given_up_by_hand_only(folder: Path, creds: Creds) -> None:
    """They lie beside the new store, for a recovery key; while this machine opens them nothing of it happens."""
    first = identity.setup(folder)
    opened(folder).close()
    with pytest.raises(AlreadyExists, match="nothing is lost"):
        identity.give_up(folder)
    creds.have("another")
    aside = identity.give_up(folder)
    assert sorted(path.name for path in aside.iterdir()) == ["generation", "identity.refused", "secrets"]
    second = identity.unseal((folder / "identity.cred").read_bytes())
    assert second.recipient != first.recipient
    assert identity.keep_what_opens(folder)


def test_a_store_that_is_in_use_is_not_given_up(folder: Path, creds: Creds) -> None:
    """The daemon that runs still has its identity."""
    identity.setup(folder)
    vault = opened(folder)
    creds.have("another")
    with pytest.raises(Busy):
        identity.give_up(folder)
    vault.close()


def test_a_recovery_key_that_is_refused_is_told_before_an_identity_is_made(
    folder: Path, creds: Creds, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At each start until it is mended; then the identity is made, and its public key told."""
    keys = folder.parent / "recipients.txt"
    monkeypatch.setattr(identity, "STATE", folder)
    monkeypatch.setattr(recipients, "PATH", keys)
    keys.write_text("nonsense\n")
    keys.chmod(0o644)
    for _ in range(2):
        assert identity.main() == InvalidInput.exit_status
        assert f"{keys}, line 1" in capsys.readouterr().err
        assert list(folder.iterdir()) == []
    keys.write_text(f"{MACHINE.recipient}\n")
    assert identity.main() == 0
    made = identity.unseal((folder / "identity.cred").read_bytes())
    assert str(made.recipient) in capsys.readouterr().err


def test_an_identity_that_may_not_last_is_not_kept(
    folder: Path, creds: Creds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder cannot be flushed: "no identity was created" is true, and the next start creates one."""
    flush = os.fsync

    def fsync(fd: int) -> None:
        if (folder / "identity.cred").exists():
            raise OSError(5, "Input/output error")
        flush(fd)

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fsync)
        with pytest.raises(HostFailure, match="no identity was created"):
            identity.setup(folder)
    assert list(folder.iterdir()) == []
    identity.setup(folder)
    assert identity.keep_what_opens(folder)


def test_secrets_without_their_identity_are_told_whatever_the_recovery_keys_are(
    folder: Path, creds: Creds, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is what the operator has to know first; flyted starts, and tells it."""
    opened(folder).close()
    (folder.parent / "recipients.txt").write_text("nonsense\n")
    monkeypatch.setattr(identity, "STATE", folder)
    monkeypatch.setattr(recipients, "PATH", folder.parent / "recipients.txt")
    assert identity.main() == 0
    assert "identity.cred is gone" in capsys.readouterr().err
