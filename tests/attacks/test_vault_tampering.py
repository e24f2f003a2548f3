"""Somebody who can write below /var/lib/flyted, but lacks the identity: found out, named, nothing read, no hang.

They know the machine's public key (it is no secret), every old file, and how a manifest looks.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from flyted.contract.errors import FlytedError, HostFailure, StoreCorrupt
from flyted.host import age
from flyted.host.vault import Vault
from tests.attacks.tampering import damaged, fifo, huge, link_to_genuine, link_to_shadow, second_name
from tests.host.vaults import MACHINE, ORG, PROJECT, files, needs_age, opened, reopened, secret_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_hang")]


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


def _directory(a: Path) -> None:
    a.unlink()
    a.mkdir(mode=0o700)


def _socket(a: Path) -> None:
    import socket

    a.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(a))


def _forged_by_public_key(a: Path) -> None:
    a.write_bytes(age.encrypt(b"attacker's value", [MACHINE.recipient]))


def _swapped(a: Path) -> None:
    (b,) = a.parent.glob("B.*.age")
    (p,) = a.parent.glob("shop+development+A.*.age")
    a.write_bytes(b.read_bytes() if b.stat().st_size != a.stat().st_size else p.read_bytes())


PLANTED: list[tuple[Callable[[Path], object], str]] = [
    (link_to_shadow, "is a symbolic link"),
    (link_to_genuine, "is a symbolic link"),
    (fifo, "is not a regular file"),
    (_socket, "is not a regular file"),
    (_directory, "is not a regular file"),
    (second_name, "has a second name"),
    (huge, "is larger than"),
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
