"""Files that somebody else may have made: none of them holds flyted up, or leads it elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyted.contract.errors import StoreCorrupt
from flyted.host import foreign_file


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    """Its text, and no more of it."""
    (tmp_path / "file").write_text("text")
    assert foreign_file.read(tmp_path / "file", 100) == "text"
    assert foreign_file.read(tmp_path / "file", 3) == "tex"


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """A pipe is not waited for, and a link is not followed."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(StoreCorrupt, match="is not a regular file"):
        foreign_file.read(tmp_path / "pipe", 100)
    with pytest.raises(OSError, match="symbolic links"):
        foreign_file.read(tmp_path / "link", 100)
