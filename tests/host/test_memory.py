"""What the kernel says of the machine's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyted.host.memory import capacity, free_bytes


def test_what_is_free_is_less_than_there_is() -> None:
    """This machine's own."""
    free = free_bytes()
    assert free is not None
    assert 0 < free < capacity().memory_bytes


@pytest.mark.parametrize("text", ["", "MemTotal: 5 kB\n", "MemAvailable:\n", "MemAvailable: much kB\n", None])
def test_a_kernel_that_does_not_say_leaves_it_open(tmp_path: Path, text: str | None) -> None:
    """An old one, a strange one, none at all."""
    file = tmp_path / "meminfo"
    if text is not None:
        file.write_text(text)
    assert free_bytes(file) is None
    file.write_text("MemTotal:  9 kB\nMemAvailable:    7 kB\n")
    assert free_bytes(file) == 7 << 10
