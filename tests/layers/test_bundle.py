"""What is taken out of a bundle, and what is refused: archives that no client of flyted's makes."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from flyted.layers import bundle
from flyted.layers.copying import Order, copy
from flyted.layers.failed import Failed
from flyted.layers.words import EX_DATAERR
from tests.layers.archives import ME


def member(path: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """One member of an archive."""
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(content), 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    """An archive with these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return io.BytesIO(out.getvalue())


def take(archive: io.BytesIO, source: str, target: Path | str, **how: Any) -> None:
    """Copy out of a bundle."""
    copy(bundle.items(archive), Order(source, str(target), ME, **how))


def test_a_folder_joins_the_one_that_is_there(tmp_path: Path) -> None:
    """Files of the same name are replaced, never written through a link; others stay."""
    target, outside = tmp_path / "to", tmp_path / "outside"
    target.mkdir()
    outside.write_text("kept")
    (target / "other").write_text("kept")
    (target / "same").symlink_to(outside)
    take(packed(member("s/same", b"new"), member("s/deep/er", b"deep"), member("t/no", b"no")), "s", target)
    assert outside.read_text() == (target / "other").read_text() == "kept"
    assert (target / "same").read_text() == "new"
    assert not (target / "same").is_symlink()
    assert sorted(each.name for each in target.iterdir()) == ["deep", "other", "same"]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (packed(member("../out", b"x")), r"leads out of its folder: '\.\./out'"),
        (packed(member("a/../../out", b"x")), "leads out of its folder"),
        (packed(member("dev", type=tarfile.CHRTYPE, devmajor=1, devminor=1)), "'dev' is a device or a pipe"),
        (packed(member("dev", type=tarfile.BLKTYPE)), "a device or a pipe"),
        (packed(member("pipe", type=tarfile.FIFOTYPE)), "a device or a pipe"),
        (packed(member("hard", type=tarfile.LNKTYPE, linkname="../../etc/passwd")), "leads out of its folder"),
        (io.BytesIO(b"no archive"), "it ends in the middle"),
        (io.BytesIO(b""), "the archive has no"),
        (io.BytesIO(gzip.compress(b"x" * 2000)), "not a tar archive"),
        (io.BytesIO(packed(member("a", b"x" * 100_000)).getvalue()[:60]), "cut off"),
        (packed(), "the archive has no"),
    ],
)
def test_what_is_refused(bad: io.BytesIO, why: str, tmp_path: Path) -> None:
    """In one line, with the member's name as text that moves no cursor."""
    with pytest.raises(Failed, match=why) as failed:
        take(bad, ".", tmp_path / "to")
    assert failed.value.status == EX_DATAERR
    assert [each.name for each in tmp_path.iterdir() if each.name != "to"] == []


def test_a_pattern_takes_what_it_matches_in_one_folder(tmp_path: Path) -> None:
    """The content of folders, files under their names; never what lies deeper, or several files as one."""
    names = ("a.py", "b.py", "c.txt", "d/e.py", "dd/f.py")
    files = packed(*(member(name, name.encode()) for name in names))
    for pattern, found in {
        "*.py": ["a.py", "b.py"], "d*": ["e.py", "f.py"], "?.txt": ["c.txt"], "[ab].py": ["a.py", "b.py"],
        "d*/*.py": ["e.py", "f.py"], "[^a].py": ["b.py"], "*": ["a.py", "b.py", "c.txt", "e.py", "f.py"],
    }.items():  # fmt: skip
        target = tmp_path / pattern.encode().hex()
        take(files, pattern, f"{target}/", glob=True)
        files.seek(0)
        assert sorted(path.name for path in target.iterdir()) == found, pattern
    with pytest.raises(Failed, match=r"\*\.py is several files, and .*one is not a folder"):
        take(files, "*.py", tmp_path / "one", glob=True)
    for pattern, why in {
        "*.js": "has nothing that matches",
        "[": "is not a valid pattern",
        "[a-": "is not a valid pattern",
    }.items():
        files.seek(0)
        with pytest.raises(Failed, match=why):
            take(files, pattern, tmp_path / "none", glob=True)


def test_a_mode_is_that_of_all_that_is_copied(tmp_path: Path) -> None:
    """Files and folders, but not those on the way."""
    take(packed(member("s/deep/er", b"x"), member("s/deep", type=tarfile.DIRTYPE)), "s", tmp_path / "to", mode=0o700)
    assert (tmp_path / "to/deep").stat().st_mode & 0o7777 == 0o700
    assert (tmp_path / "to/deep/er").stat().st_mode & 0o7777 == 0o700
