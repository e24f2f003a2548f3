"""The disk space of a layer, on a file system that other programs use as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyted.layers import room
from flyted.layers.failed import Failed
from flyted.layers.room import Limits, Room

MB = 1 << 20
LIMITS = Limits(layer_bytes=2 * MB, layer_files=100, keep_free=10 * MB)
FREE = 1000 * MB, 10_000
"""Bytes and files of the file system before the step."""


class Disk:
    """A layer's folder, and the free space of the file system that it is on."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Say at first that :data:`FREE` is free."""
        self.folder, (self.bytes, self.files) = folder, FREE
        monkeypatch.setattr(room, "_free", lambda _: (self.bytes, self.files))
        self.room = Room(str(folder), LIMITS)

    def write(self, size: int, *, files: int = 1) -> None:
        """Have the step write files of ``size`` bytes in all."""
        for number in range(files):
            (self.folder / f"{len(list(self.folder.iterdir()))}").write_bytes(b"x" * (size // files + (number == 0)))
        self.free(-size, -files)

    def free(self, size: int, files: int = 0) -> None:
        """Have somebody free space, or use it."""
        self.bytes, self.files = self.bytes + size, self.files + files


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """An empty layer."""
    return Disk(tmp_path, monkeypatch)


def test_what_others_free_between_two_looks_hides_nothing(disk: Disk) -> None:
    """They deleted a gigabyte before the step wrote; the step gets as much as it would have without them."""
    disk.free(1024 * MB, 1000)
    disk.room.check()
    disk.write(3 * MB)
    with pytest.raises(Failed, match="killed: it wrote more than 2 MB"):
        disk.room.check()


def test_a_layer_that_is_whole_is_counted(disk: Disk) -> None:
    """Others freed at the same moment what the step wrote: no look at the disk can tell."""
    disk.write(3 * MB)
    disk.free(3 * MB, 1)
    disk.room.check()
    with pytest.raises(Failed, match="killed: it wrote more than 2 MB"):
        disk.room.taken()


def test_so_are_its_files(disk: Disk) -> None:
    """Empty files take no bytes."""
    disk.write(0, files=101)
    disk.free(0, 101)
    disk.room.check()
    with pytest.raises(Failed, match="killed: it created more than 100 files"):
        disk.room.taken()


def test_what_others_use_is_not_the_layers(disk: Disk) -> None:
    """It is counted, found small, and goes on; and is counted again when as much more of the disk is used."""
    disk.free(-500 * MB)
    disk.room.check()
    disk.write(MB)
    disk.room.check()
    size, files = disk.room.taken()
    assert MB <= size < 2 * MB
    assert files == 2, "the folder and its file"
    disk.write(2 * MB)
    with pytest.raises(Failed, match="killed: it wrote more than 2 MB"):
        disk.room.check()


def test_the_machines_own_space_is_kept(disk: Disk) -> None:
    """Whoever used it."""
    disk.free(-995 * MB)
    with pytest.raises(Failed, match="killed: less than 10 MB of disk space were free"):
        disk.room.check()
