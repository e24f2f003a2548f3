"""The fixture of the builder's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.build.harness import Builds, find_uv


@pytest.fixture
def builds(tmp_path: Path) -> Builds:
    """An empty machine, as far as images go."""
    assert find_uv(), "uv is needed: tests/requirements.txt has it"
    for name in ("packages", "images"):
        (tmp_path / name).mkdir()
    return Builds(tmp_path)
