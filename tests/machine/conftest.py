"""Tests of the installed package, as root in the booted machine; nowhere else, since they change the machine they run on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs the machine: marked so, and skipped outside with the command that runs it."""
    outside = pytest.mark.skip(reason="needs the booted machine: sudo tests/run")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.machine)
            if not os.environ.get("FLYTED_IN_MACHINE"):
                item.add_marker(outside)
