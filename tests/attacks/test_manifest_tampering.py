"""The manifest and the generation of the secret store, changed, removed or put back by who lacks the identity."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from flyted.contract.errors import StoreCorrupt
from flyted.host import age
from flyted.host.age import Identity
from flyted.host.vault import Vault
from tests.attacks.tampering import damaged, fifo, huge, link_to_genuine, link_to_shadow, second_name
from tests.host.vaults import MACHINE, ORG, files, opened, reopened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_hang")]


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
        lambda f: second_name(f / "secrets/manifest"),
        lambda f: fifo(f / "secrets/manifest"),
        lambda f: link_to_genuine(f / "secrets/manifest"),
        lambda f: link_to_shadow(f / "secrets/manifest"),
        lambda f: huge(f / "secrets/manifest"),
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
        (lambda f: link_to_shadow(f / "generation"), "not a number"),
        (lambda f: fifo(f / "generation"), "not a number"),
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
    assert_all_refused(vault, "its manifest is missing")
    assert files(folder) == before
    vault.accept_rollback()
    assert vault.list() == []
    assert files(folder) == {"manifest", *(f"{n}.unlisted" for n in before)}


def test_an_emptied_folder_is_not_an_empty_store(vault: Vault, folder: Path) -> None:
    """All files gone and the generation left: secrets were there, so it is refused."""
    vault.close()
    shutil.rmtree(folder / "secrets")
    vault._files = opened(folder)._files
    assert_all_refused(vault, "its manifest is missing")
    vault.accept_rollback()
    assert vault.put(ORG, "A", b"v", replace=False).generation > 4


def test_accepting_nothing_changes_nothing(vault: Vault, folder: Path) -> None:
    """On a sound store the command does nothing."""
    before = (folder / "secrets/manifest").read_bytes()
    vault.accept_rollback()
    assert (folder / "secrets/manifest").read_bytes() == before
