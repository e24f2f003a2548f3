"""A file that everybody may read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure
from flyted.host import whole_file
from flyted.host.ingress import Ingress
from flyted.plan.ingress.auth import TOKENS


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


def test_a_file_that_is_so_already_is_left_alone(tmp_path: Path) -> None:
    """The same file, not one like it."""
    path = tmp_path / "file"
    whole_file.update(path, b"one", 0o640)
    before = path.stat()
    whole_file.update(path, b"one", 0o640)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    whole_file.update(path, b"two", 0o640)
    assert path.read_bytes() == b"two"


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o600, 0o4640])
def test_a_table_of_tokens_that_others_may_read_is_made_anew(tmp_path: Path, mode: int) -> None:
    """Or that HAProxy may not read: right contents are not enough."""
    ingress, path = Ingress(tmp_path / "admin.sock", tmp_path), tmp_path / TOKENS
    ingress.write_tokens()
    path.chmod(mode)
    ingress.write_tokens()
    assert path.stat().st_mode & 0o7777 == 0o640


def test_a_link_to_the_same_contents_is_replaced(tmp_path: Path) -> None:
    """Its target is somebody else's, and may change."""
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(b"one")
    other.chmod(0o644)
    path.symlink_to(other)
    whole_file.update(path, b"one")
    assert (path.is_symlink(), path.read_bytes()) == (False, b"one")
