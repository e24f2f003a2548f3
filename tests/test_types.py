"""All code is typed. mypy takes its time where it has not seen the code before: not with ``--fast``."""

from __future__ import annotations

import pytest

from tests.test_linters import PYTHON, ROOT, check, tool

pytestmark = pytest.mark.slow


def test_mypy() -> None:
    """All code is typed, strictly; tests too."""
    check(tool("mypy"), "--cache-dir", str(ROOT / "build/mypy"), *PYTHON)
