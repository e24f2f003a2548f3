"""What somebody who can write below /var/lib/flyted puts in the place of a file of the secret store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flyted.host.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path


def damaged(vault: Vault) -> list[tuple[str, str]]:
    return [(i.scope.project, i.key) for i in vault.list() if i.damaged]


def link_to_shadow(a: Path) -> None:
    a.unlink()
    a.symlink_to("/etc/shadow")


def link_to_genuine(a: Path) -> None:
    a.rename(a.parent.parent / "moved")
    a.symlink_to(a.parent.parent / "moved")


def fifo(a: Path) -> None:
    a.unlink()
    os.mkfifo(a, 0o600)


def second_name(a: Path) -> None:
    (a.parent.parent / "second").hardlink_to(a)


def huge(a: Path) -> None:
    with a.open("r+b") as file:
        file.truncate(1 << 40)
