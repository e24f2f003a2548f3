"""Fixtures that several files of this folder share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.host.deaths import in_memory
from tests.host.haproxy import Machine, machine

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
