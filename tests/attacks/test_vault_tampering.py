"""Somebody who can write below /var/lib/flyted, but lacks the identity: found out, named, nothing read, no hang.

They know the machine's public key (it is no secret), every old file, and how a manifest looks.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from flyted.contract.errors import FlytedError, HostFailure, StoreCorrupt
from flyted.host import age
from flyted.host.age import Identity
from flyted.host.vault import Vault
from tests.host.vaults import MACHINE, ORG, PROJECT, files, needs_age, opened, reopened, secret_file, state_folder

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """Ten seconds for each test: what hangs is killed and so seen."""
    signal.alarm(10)
    yield
    signal.alarm(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return state_folder(tmp_path)


@pytest.fixture
def vault(folder: Path) -> Iterator[Vault]:
    """Three secrets; the tests tamper with A."""
    vault = opened(folder)
    vault.put(ORG, "A", b"value of A", replace=False)
    vault.put(ORG, "B", b"value of B", replace=False)
    vault.put(PROJECT, "A", b"value of the project's A", replace=False)
    yield vault
    vault.close()


def damaged(vault: Vault) -> list[tuple[str, str]]:
    return [(i.scope.project, i.key) for i in vault.list() if i.damaged]


def assert_only_a_is_refused(vault: Vault, why: str) -> None:
    """The error names the secret and the way out; the list shows it; the others are served; replacing heals it."""
    assert damaged(vault) == [("", "A")]
    with pytest.raises(StoreCorrupt, match=r"secret 'A' of the whole machine is damaged: ") as caught:
        vault.get(ORG, "A")
    assert why in caught.value.message
    assert "flytectl secret create A --replace" in caught.value.hint
    assert vault.get(ORG, "B") == b"value of B"
    assert vault.get(PROJECT, "A") == b"value of the project's A"
    vault.put(ORG, "A", b"again", replace=True)
    assert (vault.get(ORG, "A"), damaged(vault)) == (b"again", [])


def _link_to_shadow(a: Path) -> None:
    a.unlink()
    a.symlink_to("/etc/shadow")


def _link_to_genuine(a: Path) -> None:
    a.rename(a.parent.parent / "moved")
    a.symlink_to(a.parent.parent / "moved")


def _fifo(a: Path) -> None:
    a.unlink()
    os.mkfifo(a, 0o600)


def _second_name(a: Path) -> None:
    (a.parent.parent / "second").hardlink_to(a)


def _directory(a: Path) -> None:
    a.unlink()
    a.mkdir(mode=0o700)


def _socket(a: Path) -> None:
    import socket

    a.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(a))


def _huge(a: Path) -> None:
    with a.open("r+b") as file:
        file.truncate(1 << 40)


def _forged_by_public_key(a: Path) -> None:
    a.write_bytes(age.encrypt(b"attacker's value", [MACHINE.recipient]))


def _swapped(a: Path) -> None:
    (b,) = a.parent.glob("B.*.age")
    (p,) = a.parent.glob("shop+development+A.*.age")
    a.write_bytes(b.read_bytes() if b.stat().st_size != a.stat().st_size else p.read_bytes())


PLANTED: list[tuple[Callable[[Path], object], str]] = [
    (_link_to_shadow, "is a symbolic link"),
    (_link_to_genuine, "is a symbolic link"),
    (_fifo, "is not a regular file"),
    (_socket, "is not a regular file"),
    (_directory, "is not a regular file"),
    (_second_name, "has a second name"),
    (_huge, "is larger than"),
    (lambda a: a.chmod(0o640), "is open to other users"),
    (lambda a: a.unlink(), "is missing"),
    (lambda a: a.write_bytes(b""), "is not the one that was stored"),
    (lambda a: a.write_bytes(a.read_bytes()[:-1]), "is not the one that was stored"),
    (_forged_by_public_key, "is not the one that was stored"),
    (_swapped, "is not the one that was stored"),
]


@pytest.mark.parametrize(("plant", "why"), PLANTED, ids=lambda p: getattr(p, "__name__", "").strip("_<>"))
def test_what_is_planted_for_a_secret_is_refused(
    vault: Vault, folder: Path, plant: Callable[[Path], object], why: str
) -> None:
    """One file replaced by anything else, while flyted runs: that secret is refused, and no other."""
    plant(secret_file(folder, "A"))
    assert_only_a_is_refused(vault, why)


@pytest.mark.parametrize(("plant", "why"), PLANTED, ids=lambda p: getattr(p, "__name__", "").strip("_<>"))
def test_what_is_planted_while_flyted_is_down_is_refused(
    vault: Vault, folder: Path, plant: Callable[[Path], object], why: str
) -> None:
    """The same over a restart."""
    plant(secret_file(folder, "A"))
    vault._files = reopened(vault, folder)._files
    assert_only_a_is_refused(vault, why)


def test_two_secrets_cannot_be_swapped(vault: Vault, folder: Path) -> None:
    """Renamed into each other's place, both genuine: both are refused."""
    a, b, aside = secret_file(folder, "A"), secret_file(folder, "B"), folder / "aside"
    for old, new in ((a, aside), (b, a), (aside, b)):
        old.rename(new)
    assert damaged(vault) == [("", "A"), ("", "B")]
    for key in ("A", "B"):
        with pytest.raises(StoreCorrupt, match=f"secret '{key}' .* is not the one that was stored"):
            vault.get(ORG, key)


def test_an_old_file_cannot_be_put_back(vault: Vault, folder: Path) -> None:
    """The former value of A, once genuine, under A's present name or its own old one."""
    old = secret_file(folder, "A")
    kept = old.read_bytes()
    vault.put(ORG, "A", b"new value", replace=True)
    old.write_bytes(kept)
    old.chmod(0o600)
    assert vault.get(ORG, "A") == b"new value"
    new = next(p for p in (folder / "secrets").glob("A.*.age") if p != old)
    new.write_bytes(kept)
    assert_only_a_is_refused(vault, "is not the one that was stored")


@needs_age
def test_the_age_program_cannot_forge(vault: Vault, folder: Path) -> None:
    """`age -r MACHINE` makes a file that decrypts; the store refuses it all the same."""
    command = ["age", "-r", str(MACHINE.recipient), "-o", str(secret_file(folder, "A"))]
    subprocess.run(command, input=b"attacker's value", check=True, capture_output=True)
    assert age.decrypt(secret_file(folder, "A").read_bytes(), MACHINE) == b"attacker's value"
    assert_only_a_is_refused(vault, "is not the one that was stored")


def test_files_that_nobody_lists_are_never_served(vault: Vault, folder: Path) -> None:
    """A planted file of a new name is no secret, and is swept at the next start."""
    planted = folder / "secrets" / "C.99.age"
    planted.write_bytes(age.encrypt(b"attacker's value", [MACHINE.recipient]))
    with pytest.raises(FlytedError):
        vault.get(ORG, "C")
    vault._files = reopened(vault, folder)._files
    assert not planted.exists()
    assert damaged(vault) == []


# The manifest and the generation.


def assert_all_refused(vault: Vault, why: str) -> None:
    """Every call says why, changes nothing, and the store still opens."""
    assert vault.refusal is not None
    for call in (
        vault.list,
        lambda: vault.get(ORG, "A"),
        lambda: vault.put(ORG, "A", b"x", replace=True),
        lambda: vault.delete(ORG, "A"),
        lambda: vault.resolve("A", "shop", "development"),
        lambda: vault.put_internal("ca-key", b"x"),
    ):
        with pytest.raises(StoreCorrupt, match=why) as caught:
            call()
        assert caught.value.hint


def edited(folder: Path, old: bytes, new: bytes) -> None:
    path = folder / "secrets" / "manifest"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


@pytest.mark.parametrize(
    "tamper",
    [
        lambda f: edited(f, b'"key": "B"', b'"key": "C"'),
        lambda f: edited(f, b'"internal": false', b'"internal": true '),
        lambda f: edited(f, b'"generation": 4', b'"generation": 9'),
        lambda f: (f / "secrets/manifest").write_bytes(b""),
        lambda f: (f / "secrets/manifest").chmod(0o644),
        lambda f: _second_name(f / "secrets/manifest"),
        lambda f: _fifo(f / "secrets/manifest"),
        lambda f: _link_to_genuine(f / "secrets/manifest"),
        lambda f: _link_to_shadow(f / "secrets/manifest"),
        lambda f: _huge(f / "secrets/manifest"),
    ],
)
def test_a_changed_manifest_is_refused(vault: Vault, folder: Path, tamper: Callable[[Path], object]) -> None:
    """No entry is believed when one byte is not ours; nothing can be accepted, and no file is swept."""
    before = files(folder)
    vault.close()
    tamper(folder)
    vault._files = opened(folder)._files
    assert_all_refused(vault, "the manifest of the secret store")
    with pytest.raises(StoreCorrupt):
        vault.accept_rollback()
    assert files(folder) == before


def test_another_machines_store_is_refused(vault: Vault, folder: Path) -> None:
    """A whole store, sound, made under another identity."""
    vault.close()
    shutil.rmtree(folder / "secrets")
    (folder / "generation").unlink()
    stranger = Vault.open(folder, Identity.generate(), [MACHINE.recipient])
    stranger.put(ORG, "A", b"attacker's value", replace=False)
    stranger.close()
    vault._files = opened(folder)._files
    assert_all_refused(vault, "under another machine's identity")


def restore_old(folder: Path, tmp_path: Path, vault: Vault) -> Vault:
    """The secrets folder as it was before A's last change; ``generation`` as it is."""
    vault.close()
    shutil.copytree(folder / "secrets", tmp_path / "backup")
    later = opened(folder)
    later.put(ORG, "A", b"newer value of A", replace=True)
    later.put(ORG, "N", b"newer secret", replace=False)
    later.close()
    for path in (folder / "secrets").iterdir():
        if path.name == "manifest":
            path.unlink()
    for path in (tmp_path / "backup").iterdir():
        shutil.copy2(path, folder / "secrets")
    return opened(folder)


def test_an_older_store_is_refused_until_accepted(vault: Vault, folder: Path, tmp_path: Path) -> None:
    """Rolled back: refused with the command; after it, served, counting on from the newest seen."""
    vault._files = restore_old(folder, tmp_path, vault)._files
    assert_all_refused(vault, "is at generation 4, and this machine has seen 6")
    assert "flytectl secret accept-rollback" in (vault.refusal.hint if vault.refusal else "")
    vault.accept_rollback()
    assert vault.get(ORG, "A") == b"value of A"
    assert damaged(vault) == []
    assert vault.put(ORG, "Z", b"z", replace=False).generation == 8
    vault._files = reopened(vault, folder)._files
    assert (vault.refusal, vault.get(ORG, "A")) == (None, b"value of A")


def test_accepting_keeps_what_the_old_store_does_not_list(vault: Vault, folder: Path, tmp_path: Path) -> None:
    """Newer files are not thrown away: they stay, renamed, over restarts; the recovery key opens them."""
    vault._files = restore_old(folder, tmp_path, vault)._files
    vault.accept_rollback()
    vault._files = reopened(vault, folder)._files
    kept = {p.name: age.decrypt(p.read_bytes(), MACHINE) for p in (folder / "secrets").glob("*.unlisted")}
    assert kept == {"A.5.age.unlisted": b"newer value of A", "N.6.age.unlisted": b"newer secret"}


@pytest.mark.parametrize(
    ("tamper", "why"),
    [
        (lambda f: (f / "generation").unlink(), "generation is gone"),
        (lambda f: (f / "generation").write_bytes(b"zero\n"), "not a number"),
        (lambda f: _link_to_shadow(f / "generation"), "not a number"),
        (lambda f: _fifo(f / "generation"), "not a number"),
        (lambda f: (f / "generation").write_bytes(b"99\n"), "has seen 99"),
    ],
)
def test_a_lost_generation_is_refused_until_accepted(
    vault: Vault, folder: Path, tamper: Callable[[Path], object], why: str
) -> None:
    """Without it a rollback could not be told: so its loss counts as one."""
    vault.close()
    tamper(folder)
    vault._files = opened(folder)._files
    assert_all_refused(vault, why)
    vault.accept_rollback()
    assert vault.get(ORG, "A") == b"value of A"


@pytest.mark.parametrize("also", ["", "generation"])
def test_a_removed_manifest_is_not_an_empty_store(vault: Vault, folder: Path, also: str) -> None:
    """Neither alone nor together with the generation does its loss pass for a first start; no file is swept."""
    vault.close()
    (folder / "secrets/manifest").unlink()
    if also:
        (folder / also).unlink()
    before = files(folder)
    vault._files = opened(folder)._files
    assert_all_refused(vault, "its manifest is gone")
    assert files(folder) == before
    vault.accept_rollback()
    assert vault.list() == []
    assert files(folder) == {"manifest", *(f"{n}.unlisted" for n in before)}


def test_an_emptied_folder_is_not_an_empty_store(vault: Vault, folder: Path) -> None:
    """All files gone and the generation left: secrets were there, so it is refused."""
    vault.close()
    shutil.rmtree(folder / "secrets")
    vault._files = opened(folder)._files
    assert_all_refused(vault, "its manifest is gone")
    vault.accept_rollback()
    assert vault.put(ORG, "A", b"v", replace=False).generation > 4


def test_accepting_nothing_changes_nothing(vault: Vault, folder: Path) -> None:
    """On a sound store the command does nothing."""
    before = (folder / "secrets/manifest").read_bytes()
    vault.accept_rollback()
    assert (folder / "secrets/manifest").read_bytes() == before


def test_a_link_in_place_of_the_folder_is_refused(vault: Vault, folder: Path) -> None:
    """`secrets` replaced by a link to another folder: not followed."""
    vault.close()
    (folder / "secrets").rename(folder / "elsewhere")
    (folder / "secrets").symlink_to(folder / "elsewhere")
    with pytest.raises(HostFailure, match="cannot open the directory"):
        opened(folder)
    (folder / "secrets").unlink()
    (folder / "elsewhere").rename(folder / "secrets")
    vault._files = opened(folder)._files


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_files_of_another_user_are_refused(vault: Vault, folder: Path) -> None:
    """Owner and mode are checked on the open file: a secret's, and the folder's."""
    os.chown(secret_file(folder, "A"), 65534, 65534)
    assert_only_a_is_refused(vault, "is open to other users (owner 65534")
    vault.close()
    os.chown(folder / "secrets", 65534, 65534)
    with pytest.raises(HostFailure, match="owner 65534"):
        opened(folder)
    os.chown(folder / "secrets", 0, 0)
    vault._files = opened(folder)._files


def test_a_folder_swapped_while_open_is_not_seen(vault: Vault, folder: Path) -> None:
    """Everything goes through the descriptor that was checked: another folder of that name has no effect."""
    (folder / "secrets").rename(folder / "moved")
    (folder / "secrets").mkdir(mode=0o700)
    assert vault.get(ORG, "A") == b"value of A"
    vault.put(ORG, "A", b"new", replace=True)
    assert files(folder) == set()
    assert vault.get(ORG, "A") == b"new"
