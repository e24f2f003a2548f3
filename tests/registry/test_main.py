"""How the client ends as a program, whatever happens in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyted.registry import main
from flyted.registry.words import EX_SOFTWARE, OURS


def test_a_fault_that_nobody_thought_of_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The user who waits for the pull reads all that it prints."""

    def fault(_folder: Path) -> None:
        raise ValueError("unthought\nof")

    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(main, "Store", fault)
    assert main.main(["--pull", "docker.io/library/x:1", "--platform", "linux/amd64"]) == EX_SOFTWARE
    assert capfd.readouterr() == (f"{OURS}internal error in flyted: ValueError: unthought\\nof\n", "")
