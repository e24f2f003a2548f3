"""Which modules ``tests/run --fast`` leaves out."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PROGRAMS = (
    "attacks.guard", "build.harness", "flytectl.loading", "gateway.harness", "host.haproxy", "launch.harness",
    "registry.server",
)  # fmt: skip
"""Helpers that start real programs, or a server and threads."""
STARTS_ONE = re.compile(rf"^from tests\.({'|'.join(map(re.escape, PROGRAMS))})", re.MULTILINE)


def test_what_starts_real_programs_is_marked_slow() -> None:
    """A module that is not marked is run between two thoughts."""
    modules = {path: path.read_text() for path in TESTS.rglob("test_*.py") if TESTS / "machine" not in path.parents}
    starting = [path for path, text in modules.items() if STARTS_ONE.search(text)]
    assert len(starting) > 20, "this check looks at nothing"
    assert [path for path in starting if "pytest.mark.slow" not in modules[path]] == []
