"""Linters that take their time, such as mypy where it has not seen the code before: not with ``--fast``."""

from __future__ import annotations

import pytest

from tests.test_linters import PYTHON, ROOT, check, is_shell, tool, tracked

pytestmark = pytest.mark.slow


def test_mypy() -> None:
    """All code is typed, strictly; tests too."""
    check(tool("mypy"), "--cache-dir", str(ROOT / "build/mypy"), *PYTHON)


def test_codespell() -> None:
    """Words are spelled as a dictionary spells them."""
    names = [str(p.relative_to(ROOT)) for p in tracked() if p.suffix not in {".lock", ".age", ".gz", ".png"}]
    check(tool("codespell"), *names)


def test_shellcheck() -> None:
    """Shell scripts hold to shellcheck, maintainer scripts of the package included."""
    scripts = [str(p.relative_to(ROOT)) for p in tracked() if is_shell(p)]
    assert len(scripts) >= 3, "this check looks at nothing"
    check(tool("shellcheck"), "-x", *scripts)
