"""Which modules ``tests/run --fast`` leaves out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import is_of_part

TESTS = Path(__file__).parent
PROGRAMS = (
    "attacks.guard", "build.harness", "flytectl.loading", "gateway.harness", "host.haproxy", "launch.harness",
    "registry.server",
)  # fmt: skip
"""Helpers that start real programs, or a server and threads."""
STARTS_ONE = re.compile(rf"^from tests\.({'|'.join(map(re.escape, PROGRAMS))})", re.MULTILINE)


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_each_module_is_of_one_part(count: int) -> None:
    """With however many processors: none is left out, and none is run twice."""
    parts = [f"{number}/{count}" for number in range(1, count + 1)]
    modules = list(TESTS.rglob("test_*.py"))
    assert [module for module in modules if [is_of_part(module, part) for part in parts].count(True) != 1] == []
    assert all(any(is_of_part(module, part) for module in modules) for part in parts)


def test_what_starts_real_programs_is_marked_slow() -> None:
    """A module that is not marked is run between two thoughts."""
    modules = {path: path.read_text() for path in TESTS.rglob("test_*.py") if TESTS / "machine" not in path.parents}
    starting = [path for path, text in modules.items() if STARTS_ONE.search(text)]
    assert len(starting) > 20, "this check looks at nothing"
    assert [path for path in starting if "pytest.mark.slow" not in modules[path]] == []
