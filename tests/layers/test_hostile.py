"""Hostile archives: nothing outside of the root is touched, and time, memory and disk are bounded."""

from __future__ import annotations

import gzip
import io
import os
import resource
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
import zstandard

from flyted.layers.archive import LONGEST_NAME
from flyted.layers.damaged import Damaged
from flyted.layers.inside import DEEPEST
from flyted.layers.unpack import unpack
from tests.layers.archives import END, GZIP, entry, folder, hard_link, pax, raw, symlink, tree, unpacked

pytestmark = pytest.mark.slow


class Compressor(Protocol):
    """As zlib and zstandard have it."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root; beside it is a file that nobody may touch."""
    (tmp_path / "root").mkdir()
    (tmp_path / "victim").write_text("mine")
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def victim_is_untouched(tmp_path: Path, root: Path):
    yield
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "victim").stat().st_nlink == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "victim"]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([entry("../victim", b"x")], "leads out"),
        ([entry("a/../../victim", b"x")], "leads out"),
        ([raw(b"/../victim")], "leads out"),
        ([pax(path=b"../victim"), raw(b"x")], "leads out"),
        ([hard_link("a", "../victim")], "leads out"),
        ([hard_link("a", "victim")], "does not exist"),
        ([hard_link("a", "/")], "does not exist"),
        ([folder("d"), hard_link("a", "d")], "Operation not permitted"),
        ([symlink("l", ".."), hard_link("a", "l/victim")], "does not exist"),
        ([symlink("a", "b"), symlink("b", "a"), entry("a/x", b"")], "too many links"),
        ([entry("f", b""), entry("f/x", b"")], "used as a folder"),
        ([raw(b"a", b"S")], "sparse"),
        ([pax(GNU__sparse__major=b"1"), raw(b"a")], "sparse"),
        ([raw(b"a", b"Z")], "unknown kind"),
        ([raw(b"a", size=b"\x80" + b"\0" * 6 + b"\x01" + b"\0" * 4)], "ends in the middle"),  # 4 GiB that never come
        ([raw(b"a", size=b"\xff" * 12)], "below zero"),
        ([raw(b"a", size=b"no number\0\0\0")], "not a tar archive"),
        ([raw(b"x", b"x", b"77777777777\0")], "header of"),
        ([raw(b"x", b"L", b"77777777777\0")], "header of"),
        ([raw(b"x", b"x", b"00000000005\0", b"hello")], "pax header"),
        ([raw(b"x", b"x", b"00000000012\0", b"99 path=x\n")], "pax header"),
        ([raw(b"x", b"x", b"00000000003\0", b"0 a")], "pax header"),
        ([pax(size=b"-1"), raw(b"a")], "pax header"),
        ([pax(mtime=b"nan"), raw(b"a")], "time"),
        ([pax(path=b"a\0b"), raw(b"a")], "no file can have"),
        ([pax(path=b"n" * 256), raw(b"a")], "name too long"),
        ([pax(path=b"n/" * (LONGEST_NAME // 2 + 1)), raw(b"a")], "no file can have"),
        ([pax(path=b"n/" * (DEEPEST + 1) + b"x"), raw(b"a")], "nested folders"),
        ([pax(linkpath=b"a\0b"), raw(b"a", b"2")], "link to nothing"),
        ([raw(b"a", b"2")], "link to nothing"),
        ([b"\1" * 512], "not a tar archive"),
        ([entry("a", b"x" * 512)[:600]], "ends in the middle"),
    ],
)  # fmt: skip
def test_it_is_refused(root: Path, parts: list[bytes], said: str) -> None:
    with pytest.raises(Damaged, match=said) as caught:
        unpack(io.BytesIO(b"".join(parts)), GZIP, str(root))
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("target", ["..", "/..", "../..", "/../../../..", "/"])
def test_a_link_that_leads_out_leads_to_the_root(root: Path, target: str) -> None:
    """Written through a link of the same archive, of the layer below, and by two."""
    (root / "below").symlink_to(target)
    unpacked(root, [symlink("l", target), entry("l/victim", b"x"), entry("below/v2", b"x"), entry("l/below/v3", b"x")])
    assert {"victim", "v2", "v3"} < tree(root).keys()


def test_a_link_is_never_written_through_as_a_file(root: Path, tmp_path: Path) -> None:
    for kind in (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE):
        unpacked(root, [symlink("l", str(tmp_path / "victim")), entry("l", kind=kind, link="x", mode=0o777)])
    assert not (tmp_path / "victim").stat().st_mode & 0o111


def test_whiteouts_do_not_follow_links_out(root: Path, tmp_path: Path) -> None:
    (root / "l").symlink_to(tmp_path)
    unpacked(root, [entry("l/.wh.victim"), symlink("m", ".."), entry("m/.wh..wh..opq"), entry(".wh.l")])
    assert tree(root) == {"m": "-> .."}


def test_a_hard_link_to_a_link_is_one_to_the_link(root: Path, tmp_path: Path) -> None:
    unpacked(root, [symlink("l", str(tmp_path / "victim")), hard_link("h", "l"), entry("h", b"x")])
    assert tree(root) == {"h": "x", "l": f"-> {tmp_path}/victim"}


def test_a_hard_link_to_itself_keeps_the_file(root: Path) -> None:
    unpacked(root, [entry("a", b"1"), hard_link("a", "./a"), hard_link("b", "a"), hard_link("b", "a")])
    assert tree(root) == {"a": "1", "b": "1"}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_another_file_system_is_outside(root: Path) -> None:
    """/proc in a step's root, whose links lead to open files of the step."""
    (root / "proc").symlink_to("/")  # a way that stays inside is no way to the machine's /proc
    unpacked(root, [entry("proc/self/x", b"1")])
    assert tree(root)["self/x"] == "1"
    with pytest.raises(Damaged, match="another file system"):
        unpack(io.BytesIO(entry("proc/sys/x") + END), GZIP, "/")


def test_too_many_entries(root: Path) -> None:
    with pytest.raises(Damaged, match="more than 100 entries"):
        unpacked(root, [folder(f"d{number}") for number in range(101)], most_entries=100)


def zeros(compressor: Compressor) -> bytes:
    """An archive of one file of 1 GiB, as far as its first 128 MiB."""
    head, piece = raw(b"bomb", size=b"%011o\0" % (1 << 30)), bytes(1 << 20)
    return b"".join([compressor.compress(head), *(compressor.compress(piece) for _ in range(128)), compressor.flush()])


@pytest.mark.parametrize(
    "compressor", [lambda: zlib.compressobj(1, wbits=31), lambda: zstandard.ZstdCompressor().compressobj()]
)
def test_a_bomb(root: Path, compressor: Callable[[], Compressor]) -> None:
    """1 GiB of zeros in a few MB: ends at the limit, with little memory."""
    bomb = zeros(compressor())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Damaged, match="more bytes"):
        unpack(io.BytesIO(bomb), GZIP, str(root), most_bytes=1 << 26)
    assert (root / "bomb").stat().st_size <= 1 << 26
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32_000  # KiB


def test_a_terabyte_that_is_not_there(root: Path) -> None:
    with pytest.raises(Damaged, match="ends in the middle"):
        unpacked(root, [raw(b"a", size=b"\x80" + b"\0" * 5 + b"\x01" + b"\0" * 5)])
    assert (root / "a").stat().st_blocks < 100


@pytest.mark.parametrize("cut", [100, 5000])
def test_a_blob_that_is_cut_off(root: Path, cut: int) -> None:
    data = gzip.compress(entry("a", os.urandom(10_000)) + END)
    with pytest.raises(Damaged, match=r"cut off|in the middle"):
        unpack(io.BytesIO(data[:-cut]), GZIP, str(root))


def test_a_blob_with_a_wrong_checksum(root: Path) -> None:
    compressor = zlib.compressobj(wbits=31)
    broken = compressor.compress(entry("a", os.urandom(3 << 20))) + compressor.flush()
    broken = broken[:-8] + b"\0\0\0\0" + broken[-4:]
    with pytest.raises(Damaged, match="its compression is damaged"):
        unpack(io.BytesIO(broken), GZIP, str(root))


def test_a_deep_tree_is_removed(root: Path) -> None:
    try:
        unpacked(root, [pax(path=b"d/" * (DEEPEST - 1) + b"x"), raw(b"a")])
        unpacked(root, [entry(".wh.d")])
        assert tree(root) == {}
    finally:  # too deep for shutil.rmtree, with which pytest removes its folders later
        subprocess.run(["rm", "-rf", str(root / "d")], check=True)


def test_a_folder_over_a_way_that_is_in_use(root: Path) -> None:
    """The open folder of the last entry is replaced by a link out, and used again."""
    unpacked(
        root,
        [folder("d"), entry("d/a", b"1"), symlink("d", ".."), entry("d/b", b"2"), entry("d/b", b"3"),
         symlink("u", "d"), entry("u/d", b"4"), entry("u/e", b"5")],
    )  # fmt: skip
    assert tree(root) == {"b": "3", "d": "4", "e": "5", "u": "-> d"}


def test_the_message_shows_no_control_characters(root: Path) -> None:
    with pytest.raises(Damaged) as caught:
        unpack(io.BytesIO(pax(path=b"\x1b[2J/../\n\xff") + raw(b"x") + END), GZIP, str(root))
    assert str(caught.value).isprintable()
