from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.harness import Running


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Running]:
    """A gateway that serves, and its stand-in for flyted."""
    running = Running(tmp_path)
    yield running
    running.stop()
