"""ADD: archives are unpacked, of every compression, and no hostile one does more than make files in its folder."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from flyted.layers import bundle
from flyted.layers.copying import Order, copy
from flyted.layers.failed import Failed
from tests.layers.archives import END, ME, entry, folder, hard_link, raw, symlink, tree

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "two streams of xz": lambda data: lzma.compress(data[:700]) + lzma.compress(data[700:]),
    "two streams of bzip2": lambda data: bz2.compress(data[:700]) + bz2.compress(data[700:]),
}  # fmt: skip


def archive(*parts: bytes) -> bytes:
    """An archive of these entries."""
    return b"".join(parts) + END


def add(tmp_path: Path, files: dict[str, bytes], source: str, target: str, *, glob: bool = False) -> None:
    """Have the files of a bundle added."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    opened = os.open(scratch, os.O_PATH | os.O_DIRECTORY)
    sent = io.BytesIO(gzip.compress(archive(*(entry(name, data) for name, data in files.items()))))
    try:
        copy(bundle.items(sent), Order(source, str(tmp_path) + target, ME, glob=glob, scratch=opened))
    finally:
        os.close(opened)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_an_archive_becomes_its_files(how: str, tmp_path: Path) -> None:
    """In the folder that is the target, with or without a slash; a name that would remove something is a name."""
    (tmp_path / "to").mkdir()
    (tmp_path / "to/gone").write_text("kept")
    packed = COMPRESSIONS[how](archive(folder("./"), entry("a/b", b"b"), symlink("l", "a/b"), entry(".wh.gone")))
    add(tmp_path, {"x.tar": packed}, "x.tar", "/to")
    assert tree(tmp_path / "to") == {".wh.gone": "", "a": "/", "a/b": "b", "gone": "kept", "l": "-> a/b"}
    add(tmp_path, {"x.tar": packed}, "x.tar", "/new/folder/")
    assert (tmp_path / "new/folder/a/b").read_text() == "b"


def test_what_is_no_archive_is_copied(tmp_path: Path) -> None:
    """Also what is compressed, and what only begins like something compressed; so are archives in a folder."""
    tar = archive(entry("a"))
    for name, data in {
        "text": b"text", "empty": b"", "zeros": bytes(2048), "one.gz": gzip.compress(b"x" * 600),
        "bad.bz2": b"BZh9 but no", "bad.xz": b"\xfd7zXZ but no", "cut.gz": gzip.compress(tar)[:20],
    }.items():  # fmt: skip
        add(tmp_path, {name: data}, name, "/to/")
        assert (tmp_path / "to" / name).read_bytes() == data
    add(tmp_path, {"s/x.tar": tar}, "s", "/folder")
    assert (tmp_path / "folder/x.tar").read_bytes() == tar
    add(tmp_path, {"x.tar": tar, "y.txt": b"y"}, "*", "/both/", glob=True)
    assert tree(tmp_path / "both") == {"a": "", "y.txt": "y"}


@pytest.mark.parametrize(
    "bad",
    [
        archive(entry("../out", b"x")),
        archive(entry("a/../../out", b"x")),
        archive(hard_link("h", "../../outside")),
        archive(hard_link("h", "/outside")),
        archive(raw(b"x", b"S")),
        archive(entry("fine"), entry("x" * 300)),
        archive(entry("a"), entry("a/b")),
        gzip.compress(archive(entry("a", b"x" * 5000)))[:-20],
        archive(entry("a", b"x" * 5000))[:2000],
        archive(entry("/".join("d" * 401) + "/x")),
    ],
    ids=range(10),
)
def test_a_hostile_archive_is_refused(bad: bytes, tmp_path: Path) -> None:
    """In one line."""
    (tmp_path / "outside").write_text("kept")
    with pytest.raises(Failed, match="the archive cannot be used: "):
        add(tmp_path, {"x.tar": bad}, "x.tar", "/to")
    assert (tmp_path / "outside").read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} <= {"outside", "to", "scratch"}


def test_links_of_an_archive_lead_into_its_folder(tmp_path: Path) -> None:
    """Wherever they say: absolute, upwards, or through another; and links that were there before."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "to/before").symlink_to(outside)
    packed = archive(
        symlink("absolute", str(outside)), entry("absolute/1", b"x"),
        symlink("up", "../../outside"), entry("up/2", b"x"),
        entry("before/3", b"x"),
        symlink("file", str(outside / "4")), entry("file", b"x"),
    )  # fmt: skip
    try:
        add(tmp_path, {"x.tar": packed}, "x.tar", "/to")
    except Failed as refused:
        assert "cannot be used" in str(refused)
    assert list(outside.iterdir()) == []
