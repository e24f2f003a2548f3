"""The secret store: values, names, scopes, the daemon's own secrets, recovery, files and their modes."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import shutil
import stat
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from flyted.contract.errors import AlreadyExists, Busy, HostFailure, InvalidInput, SecretNotFound, StoreCorrupt
from flyted.contract.names import SecretScope
from flyted.host import age
from flyted.host import vault as vault_module
from flyted.host.age import Identity
from flyted.host.vault import MAX_VALUE, Vault
from tests.host.forge import MACHINE_SEED, hkdf
from tests.host.vaults import (
    DOMAIN,
    MACHINE,
    OPERATOR,
    ORG,
    PROJECT,
    files,
    needs_age,
    opened,
    reopened,
    secret_file,
    state_folder,
)

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return state_folder(tmp_path)


@pytest.fixture
def vault(folder: Path) -> Iterator[Vault]:
    vault = opened(folder, OPERATOR)
    yield vault
    vault.close()


@pytest.mark.parametrize("value", [b"x", b"a\nb\0c\n", "ключ".encode(), os.urandom(65536), os.urandom(MAX_VALUE)])
def test_a_value_comes_back_byte_for_byte(vault: Vault, value: bytes) -> None:
    """Text, newlines, NUL, every size up to the largest."""
    info = vault.put(ORG, "API_KEY", value, replace=False)
    assert vault.get(ORG, "API_KEY") == value
    assert (info.size, info.damaged) == (len(value), False)


@pytest.mark.parametrize("value", [b"", bytes(MAX_VALUE + 1)])
def test_an_empty_or_too_large_value_is_refused(vault: Vault, folder: Path, value: bytes) -> None:
    """1 byte to 512 KiB; the old value and the folder stay as they were."""
    vault.put(ORG, "API_KEY", b"old", replace=False)
    before = files(folder)
    with pytest.raises(InvalidInput, match="'API_KEY'"):
        vault.put(ORG, "API_KEY", value, replace=True)
    assert (vault.get(ORG, "API_KEY"), files(folder)) == (b"old", before)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "..",
        "a/b/c",
        "/a",
        "a/",
        "../a",
        "a/..",
        "a\nb",
        "-x",
        ".x",
        "a..b",
        "a" * 129,
        "\u0410",
        "a$",
        "a\n",
        "+a",
    ],
)
def test_bad_names_are_refused_and_make_nothing(vault: Vault, folder: Path, key: str) -> None:
    """No name reaches the disk that the contract does not allow, from any call."""
    before = files(folder)
    for call in (
        lambda: vault.put(ORG, key, b"v", replace=True),
        lambda: vault.get(ORG, key),
        lambda: vault.info(ORG, key),
        lambda: vault.delete(ORG, key),
        lambda: vault.resolve(key, "default", "development"),
    ):
        with pytest.raises(InvalidInput):
            call()
    assert files(folder) == before


def test_the_longest_names_fit(vault: Vault) -> None:
    """128 characters of key in the longest project and domain."""
    scope = SecretScope("p" * 63, "d" * 63)
    vault.put(scope, "K" * 128, b"one", replace=False)
    vault.put(scope, "K" * 127 + "L", b"two", replace=False)
    assert [vault.get(scope, "K" * 128), vault.get(scope, "K" * 127 + "L")] == [b"one", b"two"]


def test_an_existing_secret_is_replaced_only_on_demand(vault: Vault, folder: Path) -> None:
    """Without ``replace`` the old value stays, and the hint is the command; with it, the old file goes."""
    first = vault.put(ORG, "API_KEY", b"old", replace=False)
    with pytest.raises(AlreadyExists) as caught:
        vault.put(ORG, "API_KEY", b"new", replace=False)
    assert caught.value.hint == "flytectl secret create API_KEY --replace"
    assert vault.get(ORG, "API_KEY") == b"old"
    second = vault.put(ORG, "API_KEY", b"new", replace=True)
    assert vault.get(ORG, "API_KEY") == b"new"
    assert second.generation > first.generation
    assert second.created == first.created
    assert files(folder) == {"manifest", f"API_KEY.{second.generation}.age"}


def test_dates_tell_when_it_was_made_and_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``created`` stays over replacements, ``updated`` is the last one; a new recovery key changes neither."""
    clock = iter([1000.9, 2000.1, 3000.0])
    monkeypatch.setattr(vault_module, "time", SimpleNamespace(time=lambda: next(clock)))
    vault = opened(folder)
    first = vault.put(ORG, "API_KEY", b"old", replace=False)
    second = vault.put(ORG, "API_KEY", b"new", replace=True)
    vault = reopened(vault, folder, OPERATOR)
    third = vault.info(ORG, "API_KEY")
    vault.close()
    assert [(i.created, i.updated) for i in (first, second, third)] == [(1000, 1000), (1000, 2000), (1000, 2000)]


def test_a_change_that_fails_at_its_last_step_leaves_nothing(vault: Vault, folder: Path) -> None:
    """The manifest cannot be replaced (somebody made a folder of it): refused, old value kept, no file left."""
    vault.put(ORG, "API_KEY", b"old", replace=False)
    (folder / "secrets/manifest").unlink()
    (folder / "secrets/manifest").mkdir()
    before = files(folder)
    with pytest.raises(HostFailure, match="its old value still stands"):
        vault.put(ORG, "API_KEY", b"new", replace=True)
    with pytest.raises(HostFailure, match="was not deleted"):
        vault.delete(ORG, "API_KEY")
    assert (files(folder), vault.get(ORG, "API_KEY")) == (before, b"old")
    (folder / "secrets/manifest").rmdir()
    vault.put(ORG, "API_KEY", b"new", replace=True)
    assert vault.get(ORG, "API_KEY") == b"new"


def test_an_error_after_the_commit_does_not_say_that_nothing_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails when the folder is flushed: the new value counts, and a deleted secret is gone."""
    vault = opened(folder)
    vault.put(ORG, "API_KEY", b"old", replace=False)
    flush, manifest = os.fsync, (folder / "secrets/manifest").read_bytes()

    def fsync(fd: int) -> None:
        if (folder / "secrets/manifest").read_bytes() != manifest:
            raise OSError(5, "Input/output error")
        flush(fd)

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fsync)
        with pytest.raises(HostFailure, match="the change is made, but a power cut may undo it: Input/output error"):
            vault.put(ORG, "API_KEY", b"new", replace=True)
    assert vault.get(ORG, "API_KEY") == b"new"
    vault = reopened(vault, folder)
    assert (vault.refusal, vault.get(ORG, "API_KEY")) == (None, b"new")
    manifest = (folder / "secrets/manifest").read_bytes()
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fsync)
        with pytest.raises(HostFailure, match="the change is made"):
            vault.delete(ORG, "API_KEY")
    vault = reopened(vault, folder)
    assert (vault.refusal, vault.list()) == (None, [])
    vault.close()


def test_the_manifest_is_keyed_as_documented(vault: Vault, folder: Path) -> None:
    """HMAC-SHA256 under HKDF-SHA256(identity, info "flyted manifest v1"): so others can check it without flyted."""
    vault.put(ORG, "API_KEY", b"v", replace=False)
    text, mac = (folder / "secrets/manifest").read_bytes().removesuffix(b"\n").rsplit(b"\n", 1)
    key = hkdf(MACHINE_SEED, b"", b"flyted manifest v1")
    assert hmac.new(key, text, "sha256").hexdigest().encode() == mac


def test_deleting_leaves_nothing(vault: Vault, folder: Path) -> None:
    """The file is gone, and so is the name."""
    vault.put(PROJECT, "API_KEY", b"v", replace=False)
    assert vault.delete(PROJECT, "API_KEY").scope == PROJECT
    assert files(folder) == {"manifest"}
    create = "flytectl secret create API_KEY --project shop --domain development"
    for call, hint in ((vault.get, create), (vault.info, create), (vault.delete, "flytectl secret ls --all")):
        with pytest.raises(SecretNotFound) as caught:
            call(PROJECT, "API_KEY")
        assert caught.value.hint == hint


def test_a_missing_secret_says_where_there_is_one(vault: Vault) -> None:
    """The usual mistake is the scope: the error names the ones that have the key."""
    vault.put(DOMAIN, "API_KEY", b"v", replace=False)
    with pytest.raises(
        SecretNotFound, match=r"of the whole machine is not in the store; there is one for domain 'dev"
    ):
        vault.get(ORG, "API_KEY")


def test_scopes_are_apart_and_resolved_inside_out(vault: Vault) -> None:
    """One key at three scopes: an app gets the nearest, as in Flyte; another project never gets it."""
    vault.put(ORG, "API_KEY", b"org", replace=False)
    assert vault.resolve("API_KEY", "shop", "development") == ORG
    vault.put(DOMAIN, "API_KEY", b"domain", replace=False)
    assert vault.resolve("API_KEY", "shop", "development") == DOMAIN
    vault.put(PROJECT, "API_KEY", b"project", replace=False)
    assert vault.resolve("API_KEY", "shop", "development") == PROJECT
    assert vault.resolve("API_KEY", "other", "development") == DOMAIN
    assert vault.resolve("API_KEY", "shop", "production") == ORG
    assert [vault.get(s, "API_KEY") for s in (ORG, DOMAIN, PROJECT)] == [b"org", b"domain", b"project"]
    assert [i.scope for i in vault.list()] == [ORG, DOMAIN, PROJECT]


def test_an_unresolved_secret_says_where_it_looked_and_what_to_type(vault: Vault) -> None:
    """All three places, the other scope that has one, and the command."""
    vault.put(SecretScope("", "production"), "TOKEN", b"v", replace=False)
    with pytest.raises(SecretNotFound) as caught:
        vault.resolve("TOKEN", "shop", "development")
    assert caught.value.message == (
        "secret 'TOKEN' is not in the store (looked in project 'shop', domain 'development'; domain 'development'; "
        "the whole machine); there is one for domain 'production'"
    )
    assert caught.value.hint == "flytectl secret create TOKEN"


def test_the_daemons_own_secrets_are_apart(vault: Vault) -> None:
    """They are replaced, never listed, and a user's secret of the same name is another one."""
    vault.put_internal("ca-key", b"first")
    vault.put_internal("ca-key", b"second")
    vault.put(ORG, "ca-key", b"user's", replace=False)
    assert vault.get_internal("ca-key") == b"second"
    assert [(i.key, i.size) for i in vault.list()] == [("ca-key", len(b"user's"))]
    vault.delete(ORG, "ca-key")
    assert vault.get_internal("ca-key") == b"second"
    for call in (lambda: vault.get(ORG, "ca-key"), lambda: vault.get_internal("other")):
        with pytest.raises(SecretNotFound) as caught:
            call()
        assert "there is one" not in caught.value.message


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
    assert "its old value still stands" in done.stdout.splitlines()[0]


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


def test_where_a_secret_comes_from_is_told_without_its_file(vault: Vault, folder: Path) -> None:
    """Scope, generation and size are in the manifest, which is in memory: no file is read or hashed."""
    vault.put(ORG, "K", b"for all", replace=False)
    info = vault.put(SecretScope("", "dev"), "K", b"of dev", replace=False)
    secret_file(folder, "dev+K").unlink()
    scope, entry = vault.find("K", "shop", "dev")
    assert (scope, entry.generation, entry.size) == (info.scope, info.generation, 6)
    with pytest.raises(SecretNotFound):
        vault.find("L", "shop", "dev")


def test_a_digest_decrypts_a_value_that_nobody_has_read_and_no_other(
    vault: Vault, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each value that is stored; a file that was changed since is refused without being opened too."""
    opened_files: list[bytes] = []
    decrypt = age.decrypt

    def counted(sealed: bytes, identity: Identity) -> bytes:
        opened_files.append(sealed)
        return bytes(decrypt(sealed, identity))

    monkeypatch.setattr(age, "decrypt", counted)
    vault.put(ORG, "K", b"one", replace=False)
    told = [vault.digest(ORG, "K") for _ in range(3)]
    assert told == [(3, hashlib.sha256(b"one").hexdigest())] * 3
    assert len(opened_files) == 1
    vault.put(ORG, "K", b"other", replace=True)
    assert vault.get(ORG, "K") == b"other"
    assert vault.digest(ORG, "K") == (5, hashlib.sha256(b"other").hexdigest())
    assert len(opened_files) == 2
    file = secret_file(folder, "K")
    file.write_bytes(file.read_bytes()[:-1] + b"\0\1")
    with pytest.raises(StoreCorrupt, match="not the one that was stored"):
        vault.digest(ORG, "K")
    assert len(opened_files) == 2
