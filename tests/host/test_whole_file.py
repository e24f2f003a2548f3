"""A file that everybody may read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure
from flyted.host import whole_file


def test_everybody_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    """Mode 0644, the new contents, and nothing beside it; a link is replaced, not followed."""
    path = tmp_path / "ca.pem"
    (tmp_path / "other").write_bytes(b"mine")
    path.symlink_to(tmp_path / "other")
    before = os.umask(0o077)
    try:
        whole_file.write(path, b"one")
        whole_file.write(path, b"two")
    finally:
        os.umask(before)
    assert (path.read_bytes(), path.stat().st_mode & 0o777, path.is_symlink()) == (b"two", 0o644, False)
    assert (tmp_path / "other").read_bytes() == b"mine"
    assert {p.name for p in tmp_path.iterdir()} == {"ca.pem", "other"}


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    """The old file stays."""
    with pytest.raises(HostFailure, match="cannot write"):
        whole_file.write(tmp_path / "none/ca.pem", b"x")
