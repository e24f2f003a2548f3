"""What pytest finds is the same each time: workers of pytest-xdist that found different tests would all stop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
LATER = """
import sys, time
shift = float(sys.argv.pop(1))
now, now_ns = time.time, time.time_ns
time.time, time.time_ns = (lambda: now() + shift), (lambda: now_ns() + int(shift * 1e9))
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--collect-only", "-m", "not machine", *sys.argv[1:]]))
"""


def found(hash_seed: str, shift_s: str, *paths: str) -> list[str]:
    """The tests that a process finds whose sets have another order, and whose clock shows another time."""
    done = subprocess.run(
        [sys.executable, "-c", LATER, shift_s, *paths], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )  # fmt: skip
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_every_process_finds_the_same_tests() -> None:
    """No name of a test follows from the time or from the order of a set."""
    first = found("1", "0", "tests")
    assert len(first) > 3000
    assert found("2", "7200", "tests") == first


def test_a_name_that_follows_from_the_time_is_noticed(tmp_path: Path) -> None:
    """The check can fail."""
    module = tmp_path / "test_named.py"
    module.write_text("import pytest, time\n@pytest.mark.parametrize('a', [time.time()])\ndef test(a): pass\n")
    assert found("1", "0", str(module)) != found("1", "7200", str(module))
