"""The secret store's files: their modes, how many there may be, one process at a time, and a full disk."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from flyted.contract.errors import Busy, HostFailure, InvalidInput
from flyted.contract.names import SecretScope
from flyted.host import vault as vault_module
from flyted.host.vault import MAX_VALUE, Vault
from tests.host.vaults import ORG, opened, reopened

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def test_a_closed_store_opens_again(folder: Path) -> None:
    """Everything is as it was after a restart, generations included."""
    vault = opened(folder)
    vault.put(ORG, "API_KEY", b"v", replace=False)
    vault.put_internal("ca-key", b"k")
    before = vault.list()
    again = reopened(vault, folder)
    assert (again.list(), again.get(ORG, "API_KEY"), again.get_internal("ca-key")) == (before, b"v", b"k")
    assert again.refusal is None
    again.close()


def test_only_one_process_has_the_store(vault: Vault, folder: Path) -> None:
    """A second daemon is told so, and may have it when the first is gone."""
    with pytest.raises(Busy):
        opened(folder)
    assert vault.list() == []


def test_files_are_for_their_owner_alone(vault: Vault, folder: Path) -> None:
    """0600 in a 0700 folder; no value, no part of the identity, is in any file."""
    vault.put(ORG, "API_KEY", b"CANARY-7f3a91", replace=False)
    assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700
    everything = [p for p in folder.rglob("*") if p.is_file()]
    assert len(everything) == 3
    for path in everything:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"CANARY" not in path.read_bytes()
        assert b"AGE-SECRET-KEY" not in path.read_bytes()


@pytest.mark.parametrize("mode", [0o777, 0o720])
def test_a_folder_that_others_may_write_is_refused(folder: Path, mode: int) -> None:
    """Whoever may write the state folder could put another store in its place."""
    folder.chmod(mode)
    with pytest.raises(HostFailure, match="open to other users"):
        opened(folder)


def test_the_number_of_secrets_is_bounded(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the most is refused; replacing still works."""
    monkeypatch.setattr(vault_module, "MAX_SECRETS", 2)
    vault.put(ORG, "A", b"v", replace=False)
    vault.put(ORG, "B", b"v", replace=False)
    with pytest.raises(InvalidInput, match="full"):
        vault.put(ORG, "C", b"v", replace=False)
    vault.put(ORG, "B", b"w", replace=True)
    assert [i.key for i in vault.list()] == ["A", "B"]


def test_a_manifest_of_the_most_secrets_can_be_read_again(folder: Path) -> None:
    """The bound on secrets and the bound on the manifest's size agree."""
    from types import MappingProxyType

    from flyted.host import manifest, secret_files
    from flyted.host.manifest import Entry, Manifest, Slot

    entry = Entry(10**9, "a" * 64, MAX_VALUE, 2**33, 2**33, "b" * 16)
    scope = SecretScope("p" * 63, "d" * 63)
    slots = {Slot(scope, f"{i:0128}"): entry for i in range(vault_module.MAX_SECRETS)}
    data = manifest.encode(Manifest(10**9, MappingProxyType(slots)), bytes(32))
    assert len(data) < secret_files._MAX_MANIFEST / 2


SMALL_DISK = r"""
import os, sys
from pathlib import Path
from flyted.contract.errors import HostFailure
from tests.host.vaults import ORG, files, opened, reopened
folder = Path(sys.argv[1])
folder.chmod(0o711)
vault = opened(folder)
vault.put(ORG, "API_KEY", b"old", replace=False)
before = files(folder), set(os.listdir(folder))
for key in ("API_KEY", "OTHER"):
    try:
        vault.put(ORG, key, os.urandom(200_000), replace=True)
    except HostFailure as error:
        print(error.message)
assert (files(folder), set(os.listdir(folder))) == before
vault = reopened(vault, folder)
assert vault.get(ORG, "API_KEY") == b"old" and vault.refusal is None
assert [i.damaged for i in vault.list()] == [False]
vault.put(ORG, "API_KEY", b"new", replace=True)
assert vault.get(ORG, "API_KEY") == b"new"
"""


def _unshare() -> list[str]:
    """A shell with mounts of its own; they go when it ends."""
    tool = shutil.which("unshare")
    command = [tool or "unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--"]
    probe = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    works = tool is not None and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    return command if works else []


@pytest.mark.skipif(not _unshare(), reason="cannot mount a tmpfs here (needs root, or user namespaces)")
def test_a_full_disk_leaves_the_old_value(tmp_path: Path) -> None:
    """On a disk of 64 KiB a large value is refused as "disk full"; the old one stays, nothing is left behind."""
    import sys

    shell = 'mount -t tmpfs -o size=64k,mode=711 tmpfs "$1" && exec "$2" -c "$3" "$1"'
    arguments = ["sh", "-c", shell, "sh", str(tmp_path), sys.executable, SMALL_DISK]
    done = subprocess.run([*_unshare(), *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"disk full: secret '(\w+)'[^\n]*", done.stdout) == ["API_KEY", "OTHER"]
    assert "it keeps its old value" in done.stdout.splitlines()[0]
