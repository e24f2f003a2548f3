"""Layers of images are unpacked as container runtimes do it, and as tar(1) does it."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from flyted.layers.damaged import Damaged
from flyted.layers.unpack import NOBODY, unpack
from tests.layers.archives import END, GZIP, entry, folder, hard_link, pax, raw, symlink, tree, unpacked

pytestmark = pytest.mark.slow

ROOT = os.geteuid() == 0


def listing(root: Path) -> str:
    """Everything that tar keeps, of everything below ``root``."""
    show = ["find", ".", "-printf", "%P|%y|%m|%U|%G|%Ts|%l|%n|%Y\n"]
    names = subprocess.run(show, cwd=root, check=True, capture_output=True, text=True, errors="surrogateescape").stdout
    sums = subprocess.run(
        ["find", ".", "-type", "f", "-exec", "sha256sum", "{}", "+"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return "\n".join([*sorted(names.splitlines()), *sorted(sums.splitlines())])


def make_tree(root: Path) -> None:
    """A tree with what real images have: all kinds, deep and long names, links, holes of time."""
    chance = random.Random(11)
    folders = [root]
    for number in range(60):
        parent = chance.choice(folders)
        made = parent / f"{'d' * chance.choice((1, 60))}{number}"
        made.mkdir()
        folders.append(made)
    for number in range(400):
        path = chance.choice(folders) / f"{'n' * chance.choice((1, 150))}-é-{number}"
        path.write_bytes(chance.randbytes(chance.choice((0, 1, 511, 512, 513, 70_000))))
        path.chmod(chance.choice((0o644, 0o755, 0o600, 0o444)))
        os.utime(path, (chance.randrange(2_000_000_000),) * 2)
        if number % 10 == 0:
            path.with_name(f"hard{number}").hardlink_to(path)
            path.with_name(f"soft{number}").symlink_to(f"../{'x' * chance.choice((1, 150))}")
    os.mkfifo(root / "fifo")
    for path in folders:
        os.utime(path, (chance.randrange(2_000_000_000),) * 2)


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_a_tree_arrives_as_tar_unpacks_it(tmp_path: Path, form: str) -> None:
    """Contents, modes, owners, times, links and their numbers are those of tar(1)."""
    for name in ("from", "tar", "ours"):
        (tmp_path / name).mkdir()
    make_tree(tmp_path / "from")
    layer = tmp_path / "layer.tar"
    subprocess.run(["tar", f"--format={form}", "-cf", layer, "-C", tmp_path / "from", "."], check=True)
    subprocess.run(["tar", "-xpf", layer, "-C", tmp_path / "tar"], check=True)
    with layer.open("rb") as blob:
        unpack(blob, "application/vnd.oci.image.layer.v1.tar", str(tmp_path / "ours"))
    assert listing(tmp_path / "ours") == listing(tmp_path / "tar")


def test_the_oldest_form_with_a_long_name(tmp_path: Path) -> None:
    """ustar keeps the begin of a name in a field of its own."""
    info = tarfile.TarInfo("d" * 90 + "/" + "n" * 90)
    info.uid, info.gid = os.getuid(), os.getgid()
    unpack(io.BytesIO(info.tobuf(tarfile.USTAR_FORMAT) + END), GZIP, str(tmp_path))
    assert sorted(tree(tmp_path)) == ["d" * 90, info.name]


def several_members(data: bytes) -> bytes:
    """As eStargz writes it: a member for each piece, and zeros behind the last."""
    return b"".join(gzip.compress(data[at : at + 700]) for at in range(0, len(data), 700)) + bytes(512)


def frames(data: bytes) -> bytes:
    """As zstd:chunked writes it: frames, and one that decompressors skip."""
    half = len(data) // 2
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    return skipped + zstandard.compress(data[:half]) + skipped + zstandard.compress(data[half:]) + skipped


@pytest.mark.parametrize("packed", [bytes, gzip.compress, several_members, zstandard.compress, frames])
def test_the_compression_is_what_the_bytes_say(tmp_path: Path, packed: object) -> None:
    data = entry("a", b"x" * 3_000_000) + folder("d") + entry("d/b", b"b") + END
    assert callable(packed)
    unpack(io.BytesIO(packed(data)), GZIP, str(tmp_path))
    assert tree(tmp_path) == {"a": "x" * 3_000_000, "d": "/", "d/b": "b"}


def test_an_archive_may_end_without_its_end(tmp_path: Path) -> None:
    unpack(io.BytesIO(entry("a", b"1")), GZIP, str(tmp_path))
    assert tree(tmp_path) == {"a": "1"}


def test_an_empty_layer_is_one(tmp_path: Path) -> None:
    assert unpacked(tmp_path, []).entries == 0


class TestWhiteouts:
    """OCI image-spec, layer.md: whiteouts count for the layers below, wherever in the archive they stand."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for name in ("d/old", "d/sub/older", "file", "keep"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("old")
        return tmp_path

    def test_a_name(self, root: Path) -> None:
        found = unpacked(root, [entry(".wh.file"), entry("d/.wh.sub"), entry(".wh.none"), entry("none/.wh.x")])
        assert tree(root) == {"d": "/", "d/old": "old", "keep": "old"}
        assert found.whiteouts == 4

    @pytest.mark.parametrize("first", [True, False])
    def test_a_folder(self, root: Path, first: bool) -> None:
        white, new = [entry("d/.wh..wh..opq")], [folder("d"), entry("d/new", b"new"), entry("d/sub/newer", b"new")]
        unpacked(root, white + new if first else new + white)
        assert tree(root)["d/sub/newer"] == tree(root)["d/new"] == "new"
        assert not {"d/old", "d/sub/older"} & tree(root).keys()

    @pytest.mark.parametrize("first", [True, False])
    def test_a_name_that_the_layer_makes_anew(self, root: Path, first: bool) -> None:
        both = [entry(".wh.file"), entry("file", b"new")]
        unpacked(root, both if first else both[::-1])
        assert tree(root)["file"] == "new"

    def test_a_whiteout_with_content_and_those_of_aufs(self, root: Path) -> None:
        unpacked(root, [entry(".wh.file", b"x" * 2000), entry(".wh..wh.plnk", b"x"), entry("new", b"new")])
        assert "file" not in tree(root)
        assert tree(root)["new"] == "new"

    @pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh...", "d/.wh..wh..opq/../../.wh.x"])
    def test_one_that_names_a_folder_above(self, root: Path, name: str) -> None:
        before = tree(root)
        with pytest.raises(Damaged, match=r"whiteout without a name|leads out"):
            unpacked(root / "d", [entry(name)])
        assert tree(root) == before


def test_a_layer_replaces_what_is_below(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "dir/sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("dir")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/old").write_text("old")
    unpacked(
        tmp_path, [folder("file"), entry("file/x", b"1"), entry("dir", b"2"), folder("link"), symlink("l2", "x"),
                   entry("l2", b"3"), folder("kept"), entry("twice", b"first"), entry("twice", b"second")]
    )  # fmt: skip
    assert tree(tmp_path) == {
        "file": "/", "file/x": "1", "dir": "2", "link": "/", "l2": "3", "kept": "/", "kept/old": "old",
        "twice": "second",
    }  # fmt: skip


def test_a_link_to_a_folder_is_followed_inside(tmp_path: Path) -> None:
    """Layers made by hand have bin/tool above a base where /bin leads to usr/bin."""
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "abs").symlink_to("/usr/../../../usr/bin")
    unpacked(tmp_path, [entry("bin/a", b"1"), entry("abs/b", b"2"), hard_link("c", "abs/b"), hard_link("bin/d", "/c")])
    assert tree(tmp_path)["usr/bin/a"] == "1"
    assert tree(tmp_path)["usr/bin/b"] == tree(tmp_path)["c"] == tree(tmp_path)["usr/bin/d"] == "2"
    assert (tmp_path / "c").stat().st_nlink == 3


def test_modes_and_what_is_left_out(tmp_path: Path) -> None:
    found = unpacked(
        tmp_path,
        [entry("su", mode=0o6755), folder("spool", mode=0o7775), entry("null", kind=tarfile.CHRTYPE),
         entry("disk", kind=tarfile.BLKTYPE), entry("pipe", kind=tarfile.FIFOTYPE, mode=0o620),
         folder("./", mode=0o711)],
    )  # fmt: skip
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "su", tmp_path / "spool", tmp_path)}
    assert modes == {"su": 0o755, "spool": 0o3775, tmp_path.name: 0o711}
    assert stat.S_IMODE((tmp_path / "pipe").stat().st_mode) == 0o620
    assert sorted(tree(tmp_path)) == ["pipe", "spool", "su"]
    assert found.devices == 2


@pytest.mark.skipif(not ROOT, reason="gives files away")
def test_owners(tmp_path: Path) -> None:
    unpacked(
        tmp_path,
        [
            entry("a", uid=33, gid=42),
            folder("d", uid=1000, gid=1000),
            entry("l", kind=tarfile.SYMTYPE, link="x", uid=7),
        ],
    )
    assert [(tmp_path / name).lstat().st_uid for name in "adl"] == [33, 1000, 7]


@pytest.mark.skipif(not ROOT, reason="gives files away")
def test_an_owner_that_cannot_be_is_nobody(tmp_path: Path) -> None:
    found = unpacked(
        tmp_path, [pax(uid=b"99999999999"), raw(b"a"), pax(gid=b"99999999999"), raw(b"l", b"2", link=b"x")]
    )
    assert [(tmp_path / name).lstat().st_uid for name in "al"] == [NOBODY, NOBODY]
    assert found.strangers == 2


@pytest.mark.skipif(not ROOT, reason="gives files away")
def test_an_owner_that_means_no_change_is_nobody(tmp_path: Path) -> None:
    """chown(2) takes 2**32 - 1 for "leave it": the file would be the unpacker's, who is root of the image."""
    unchanged = str((1 << 32) - 1).encode()
    members = [pax(uid=unchanged, gid=unchanged), raw(b"a"), pax(uid=unchanged, gid=unchanged), raw(b"d", b"5")]
    found = unpacked(tmp_path, [*members, pax(uid=unchanged, gid=unchanged), raw(b"l", b"2", link=b"x")])
    assert [((tmp_path / name).lstat().st_uid, (tmp_path / name).lstat().st_gid) for name in "adl"] == [
        (NOBODY, NOBODY)
    ] * 3
    assert found.strangers == 3


@pytest.mark.parametrize("value", [b"-5", b"99999999999999", b"1.5", b"1000000000.123456789"])
def test_any_time_is_taken(tmp_path: Path, value: bytes) -> None:
    unpacked(tmp_path, [pax(mtime=value), raw(b"a")])
    expected = {b"1.5": 1_500_000_000, b"1000000000.123456789": 1_000_000_000_123_456_789}.get(value, 0)
    assert (tmp_path / "a").stat().st_mtime_ns == expected


def test_attributes_are_dropped(tmp_path: Path) -> None:
    unpacked(tmp_path, [pax(SCHILY__xattr__user__x=b"1", path=b"a"), raw(b"b")])
    assert os.listxattr(tmp_path / "a") == []


def test_names_are_bytes(tmp_path: Path) -> None:
    names = [b"new\nline", b"\xff\xfe", b"\x1b[31m", b"n" * 255]
    unpacked(tmp_path, [part for name in names for part in (pax(path=name), raw(b"x"))])
    assert sorted(os.fsencode(path.name) for path in tmp_path.iterdir()) == sorted(names)
