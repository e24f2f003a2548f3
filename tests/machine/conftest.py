"""Tests of the installed package, as root in the booted machine; nowhere else: they change the machine they run on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# outside they cannot even be read: they import what only the machine has (sudo tests/run runs them)
collect_ignore_glob = [] if os.environ.get("FLYTED_IN_MACHINE") else ["*"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks everything in this folder as ``machine``."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.machine)
