"""What the tests of the secret store share: a folder as the package makes it, and two identities."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from flyted.contract.names import SecretScope
from flyted.host.age import Identity
from flyted.host.vault import Vault
from tests.host.forge import MACHINE_SEED, OPERATOR_SEED

if TYPE_CHECKING:
    from pathlib import Path

MACHINE, OPERATOR = Identity(MACHINE_SEED), Identity(OPERATOR_SEED)
ORG = SecretScope()
DOMAIN = SecretScope("", "development")
PROJECT = SecretScope("shop", "development")

needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="the age program is not installed")


def state_folder(parent: Path) -> Path:
    """Like /var/lib/flyted: 0711, ours."""
    folder = parent / "flyted"
    folder.mkdir(exist_ok=True)  # flyted may have been there before
    folder.chmod(0o711)
    return folder


def opened(folder: Path, *recovery: Identity) -> Vault:
    return Vault.open(folder, MACHINE, [r.recipient for r in recovery])


def reopened(vault: Vault, folder: Path, *recovery: Identity) -> Vault:
    vault.close()
    return opened(folder, *recovery)


def secret_file(folder: Path, stem: str) -> Path:
    """The one file of a secret, whatever its generation."""
    (found,) = (p for p in (folder / "secrets").iterdir() if p.name.rsplit(".", 2)[0] == stem and p.suffix == ".age")
    return found


def files(folder: Path) -> set[str]:
    return set(os.listdir(folder / "secrets"))  # noqa: PTH208 - names only
