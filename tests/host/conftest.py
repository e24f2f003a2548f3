"""Fixtures that several files of this folder share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flyted.host.vault import Vault
from tests.host.deaths import in_memory
from tests.host.haproxy import Machine, machine
from tests.host.vaults import OPERATOR, opened, state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Machine]:
    """A HAProxy that knows no app yet."""
    with machine(tmp_path) as made:
        yield made


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder in memory, for hundreds of stores."""
    with in_memory() as folder:
        yield folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Like /var/lib/flyted."""
    return state_folder(tmp_path)


@pytest.fixture
def vault(folder: Path) -> Iterator[Vault]:
    """A secret store with a recovery key, and no secret."""
    vault = opened(folder, OPERATOR)
    yield vault
    vault.close()
