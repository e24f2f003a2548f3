"""Free space, as the kernel counts it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure
from flyted.host.disk import free_bytes


def test_a_file_system_is_counted_once(tmp_path: Path) -> None:
    """Two folders of one disk do not have its space twice; another file system has its own."""
    below = tmp_path / "below"
    below.mkdir()
    assert list(free_bytes([str(tmp_path), str(below)])) == [str(tmp_path)]
    other = next(each for each in ("/dev/shm", "/") if Path(each).stat().st_dev != tmp_path.stat().st_dev)
    free = free_bytes([str(tmp_path), other])
    assert set(free) == {str(tmp_path), other}
    assert all(size >= 0 for size in free.values())


def test_it_is_what_a_user_may_write(tmp_path: Path) -> None:
    """Without the blocks that ext4 keeps for root."""
    disk = os.statvfs(tmp_path)
    (free,) = free_bytes([str(tmp_path)]).values()
    assert abs(free - disk.f_bavail * disk.f_frsize) < 1 << 30  # others write meanwhile


def test_a_folder_that_is_not_there_is_said() -> None:
    """By name."""
    with pytest.raises(HostFailure, match="/does/not/exist"):
        free_bytes(["/does/not/exist"])
