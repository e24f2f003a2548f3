"""The secret store and its recovery keys: which files they open, and from when to when."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from flyted.host.vault import Vault
from tests.host.vaults import MACHINE, OPERATOR, ORG, PROJECT, files, needs_age, opened, reopened, secret_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@needs_age
def test_a_recovery_key_opens_the_files_without_flyted(vault: Vault, folder: Path, tmp_path: Path) -> None:
    """`age -d -i operator.txt FILE` prints the value, byte for byte; the file is found by its name."""
    value, key = os.urandom(70_000), tmp_path / "operator.txt"
    key.write_text(OPERATOR.reveal() + "\n")
    vault.put(PROJECT, "API_KEY", value, replace=False)
    file = secret_file(folder, "shop+development+API_KEY")
    assert subprocess.run(["age", "-d", "-i", key, file], capture_output=True, check=True).stdout == value


@needs_age
def test_a_recovery_key_added_later_covers_older_secrets(folder: Path, tmp_path: Path) -> None:
    """At the next start they are encrypted anew: values, dates and names stay; then there is nothing to do."""
    key = tmp_path / "operator.txt"
    key.write_text(OPERATOR.reveal() + "\n")
    alone = opened(folder)
    info = alone.put(ORG, "API_KEY", b"v", replace=False)
    alone.put_internal("ca-key", b"k")
    assert not alone.has_recovery
    vault = reopened(alone, folder, OPERATOR)
    assert (vault.has_recovery, vault.stale) == (True, 0)
    before = files(folder)
    vault = reopened(vault, folder, OPERATOR)
    assert files(folder) == before
    (now,) = vault.list()
    assert (now.created, now.updated, now.damaged) == (info.created, info.updated, False)
    assert (vault.get(ORG, "API_KEY"), vault.get_internal("ca-key")) == (b"v", b"k")
    vault.close()
    file = secret_file(folder, "API_KEY")
    assert subprocess.run(["age", "-d", "-i", key, file], capture_output=True, check=True).stdout == b"v"


def test_what_cannot_be_sealed_anew_is_counted(folder: Path) -> None:
    """A damaged secret hinders neither the start nor the others; replacing it brings it up to date."""
    vault = opened(folder)
    for key in ("A", "B"):
        vault.put(ORG, key, b"v", replace=False)
    secret_file(folder, "A").write_bytes(b"damaged")
    vault = reopened(vault, folder, OPERATOR)
    assert vault.stale == 1
    assert secret_file(folder, "B").read_bytes().count(b"-> X25519") == 2
    vault.put(ORG, "A", b"v", replace=True)
    assert vault.stale == 0
    vault.close()


def test_a_recovery_key_that_is_removed_opens_nothing_more(vault: Vault, folder: Path) -> None:
    """From the next start no file is encrypted to it (old backups still are: the key must be replaced there)."""
    vault.put(ORG, "API_KEY", b"v", replace=False)
    vault._files = reopened(vault, folder)._files
    assert secret_file(folder, "API_KEY").read_bytes().count(b"-> X25519") == 1


def test_recovery_keys_may_repeat(folder: Path) -> None:
    """The machine's own key among the recovery keys, or one twice, is one recipient."""
    vault = Vault.open(folder, MACHINE, [MACHINE.recipient, MACHINE.recipient])
    vault.put(ORG, "API_KEY", b"v", replace=False)
    assert not vault.has_recovery
    assert secret_file(folder, "API_KEY").read_bytes().count(b"-> X25519") == 1
    vault.close()
