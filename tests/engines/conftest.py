"""Tests of language model servers, as root in a booted Debian 12 with the environment of ``environment``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytest.register_assert_rewrite("tests.engines.checks", "tests.engines.serving")

collect_ignore_glob = [] if os.environ.get("FLYTED_IN_MACHINE") else ["*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks everything in this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.machine)
