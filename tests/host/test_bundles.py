"""A code bundle is stored whole, once, under its digest; nothing else is ever read or left behind."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure, InvalidInput
from flyted.host import bundles

DATA = b"code" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


def memfd(data: bytes) -> int:
    """What flytectl sends."""
    fd = os.memfd_create("bundle")
    os.write(fd, data)
    return fd


def test_a_bundle_is_stored_readable_for_apps(tmp_path: Path) -> None:
    """Whole, 0644 whatever the umask, named by its digest; a second time changes nothing."""
    old = os.umask(0o077)
    try:
        bundles.keep(tmp_path, {DIGEST: memfd(DATA)})
        bundles.keep(tmp_path, {DIGEST: memfd(b"other")})
    finally:
        os.umask(old)
    stored = bundles.path_of(tmp_path, DIGEST)
    assert stored.read_bytes() == DATA
    assert stored.stat().st_mode & 0o777 == 0o644


def test_another_digest_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """What is not what was announced does not get the name."""
    with pytest.raises(InvalidInput, match="digest"):
        bundles.keep(tmp_path, {DIGEST: memfd(b"other")})
    assert list(tmp_path.iterdir()) == []


def test_what_could_block_or_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe that nobody writes to does not hold the daemon."""
    reading, writing = os.pipe()
    folder = os.open(tmp_path, os.O_RDONLY)
    for fd in (reading, folder, os.open("/dev/zero", os.O_RDONLY)):
        with pytest.raises(InvalidInput, match="regular file"):
            bundles.keep(tmp_path, {DIGEST: fd})
        os.close(fd)
    os.close(writing)


def test_a_bundle_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """By its size, before a byte is read; a sparse file is no way around."""
    fd = os.memfd_create("bundle")
    os.ftruncate(fd, bundles.LIMIT + 1)
    with pytest.raises(InvalidInput, match="at most 256 MiB"):
        bundles.keep(tmp_path, {DIGEST: fd})
    os.close(fd)


def test_all_bundles_of_a_request_are_looked_at_before_one_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that cannot be met writes nothing: they are too large in total, or the disk has no room for them."""
    large = os.memfd_create("bundle")
    os.ftruncate(large, bundles.LIMIT)
    reading, writing = os.pipe()
    with pytest.raises(InvalidInput, match="regular file"):
        bundles.keep(tmp_path, {DIGEST: memfd(DATA), "b" * 64: reading})
    with pytest.raises(InvalidInput, match="at most 512 MiB together"):
        bundles.keep(tmp_path, {DIGEST: memfd(DATA), **{f"{n}" * 64: large for n in range(2)}})
    monkeypatch.setattr(bundles, "disk_space", lambda _folder: (len(DATA) - 1, 1 << 40))
    with pytest.raises(HostFailure, match="the disk is full") as raised:
        bundles.keep(tmp_path, {DIGEST: memfd(DATA)})
    assert "df -h" in raised.value.hint
    assert list(tmp_path.iterdir()) == []
    for fd in (large, reading, writing):
        os.close(fd)


def test_sweep_keeps_what_is_used(tmp_path: Path) -> None:
    """Unused bundles and halves that a crash left are deleted."""
    bundles.keep(tmp_path, {DIGEST: memfd(DATA)})
    bundles.keep(tmp_path, {hashlib.sha256(b"old").hexdigest(): memfd(b"old")})
    (tmp_path / ".abc.part").write_bytes(b"half")
    bundles.sweep(tmp_path, {DIGEST})
    assert [p.name for p in tmp_path.iterdir()] == [f"{DIGEST}.tar.gz"]


def test_a_half_copy_of_a_deploy_under_way_stays(tmp_path: Path) -> None:
    """A sweep may come at any moment."""
    (tmp_path / ".abc.part").write_bytes(b"half")
    bundles.keep(tmp_path, {DIGEST: memfd(DATA)})
    bundles.sweep(tmp_path, set(), halves=False)
    assert [p.name for p in tmp_path.iterdir()] == [".abc.part"]


def test_a_file_that_may_never_answer_is_told_from_one_in_memory(tmp_path: Path) -> None:
    """Whatever is on a file system, FUSE among them; also a pipe or a socket."""
    fd = memfd(DATA)
    bundles.check_memory(fd)
    os.close(fd)
    reading, writing = os.pipe()
    (tmp_path / "file").write_bytes(DATA)
    for fd in (reading, writing, os.open("/proc/self/status", os.O_RDONLY), os.open("/", os.O_RDONLY)):
        with pytest.raises(InvalidInput, match="must come as a file in memory"):
            bundles.check_memory(fd)
        os.close(fd)
