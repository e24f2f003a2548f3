"""Whole files: what is on the disk before a file gets its name, and what is left when that fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flyted.base import files


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut right after the rename finds all of them: they were flushed, while the old file had the name."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen: list[tuple[int, bytes]] = []
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append((os.fstat(fd).st_size, path.read_bytes())))
    files.replace(path, b"new bytes", 0o600)
    assert seen == [(9, b"old")]
    assert path.read_bytes() == b"new bytes"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_mode_is_what_was_asked_for(tmp_path: Path, mode: int) -> None:
    """Whatever the umask is."""
    before = os.umask(0o077)
    try:
        files.replace(tmp_path / "file", b"x", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_a_disk_that_refuses_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing beside it."""

    def refuse(_fd: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="input/output error"):
        files.replace(path, b"new", 0o600)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_is_not_published_is_gone(tmp_path: Path) -> None:
    """Whether its writer thought better of it or failed."""
    with files.aside(tmp_path, 0o600) as new:
        new.file.write(b"x")
        assert [entry.suffix for entry in tmp_path.iterdir()] == [".part"]
    with pytest.raises(ValueError, match="no"), files.aside(tmp_path, 0o600) as new:
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []
