"""The secret store: values, names, scopes, the daemon's own secrets."""

from __future__ import annotations

import hashlib
import hmac
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from flyted.contract.errors import AlreadyExists, HostFailure, InvalidInput, SecretNotFound, StoreCorrupt
from flyted.contract.names import SecretScope
from flyted.host import age
from flyted.host import vault as vault_module
from flyted.host.age import Identity
from flyted.host.vault import MAX_VALUE, Vault
from tests.host.forge import MACHINE_SEED, hkdf
from tests.host.vaults import DOMAIN, OPERATOR, ORG, PROJECT, files, opened, reopened, secret_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


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
    with pytest.raises(HostFailure, match="it keeps its old value"):
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
        with pytest.raises(
            HostFailure, match="the change was made, but a power failure may undo it: Input/output error"
        ):
            vault.put(ORG, "API_KEY", b"new", replace=True)
    assert vault.get(ORG, "API_KEY") == b"new"
    vault = reopened(vault, folder)
    assert (vault.refusal, vault.get(ORG, "API_KEY")) == (None, b"new")
    manifest = (folder / "secrets/manifest").read_bytes()
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fsync)
        with pytest.raises(HostFailure, match="the change was made"):
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
