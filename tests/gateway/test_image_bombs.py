"""Small uploads for an image that become large in memory or on the disk, or take long to look through."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from pathlib import Path

import pytest
from flyteidl2.imagebuilder import definition_pb2 as definition

from flyted.contract.errors import InvalidInput
from flyted.gateway.files import archive as archive_module
from flyted.gateway.files import context
from flyted.gateway.files import folders as folders_module
from tests.gateway.test_folders import read
from tests.gateway.test_images import PIP, archive

pytestmark = pytest.mark.slow


def test_an_image_of_too_many_layers_is_refused_before_each_is_looked_at(tmp_path: Path) -> None:
    """A search of 20000 files for each of a hundred thousand layers took hours."""
    with pytest.raises(InvalidInput, match="has 65 layers; the limit is 64"):
        read(tmp_path, [PIP] * 65, archive({}))


def test_one_file_under_many_names_is_read_within_the_limit(tmp_path: Path) -> None:
    """`0/../a`, `1/../a`: each name was a copy of the text in memory."""
    layers = [definition.Layer(requirements=definition.Requirements(file=f"{n}/../a")) for n in range(64)]
    small = b"x" * (context.TEXT_BYTES // 64)
    assert len(read(tmp_path, layers, archive({"a": small}))["files"]) == 64
    with pytest.raises(InvalidInput, match="requirements files are more than 64 KiB"):
        read(tmp_path, layers, archive({"a": small + b"x"}))


def test_paths_in_each_other_are_one_bundle_if_they_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else 31 of them pack the same file 31 times."""
    monkeypatch.setattr(folders_module, "UNPACKED_BYTES", 2000)
    layers = [
        definition.Layer(copy_config=definition.CopyConfig(src="/".join("abc"[:deep]), dst="/srv"))
        for deep in (1, 2, 3)
    ]
    assert set(read(tmp_path, layers, archive({"a/b/c/f": b"x" * 600}))["folders"]) == {"a", "a/b", "a/b/c"}
    assert set(read(tmp_path, layers, archive({"a/b/c/f": b"x" * 700}))["folders"]) == {"."}


def test_pieces_of_an_archive_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one has 20 bytes, and costs as much as any other."""
    monkeypatch.setattr(archive_module, "PIECES", 10)
    empty = gzip.compress(b"")
    read(tmp_path, [], empty * 9 + archive({}))
    with pytest.raises(InvalidInput, match="compressed in more than 10 pieces"):
        read(tmp_path, [], empty * 10 + archive({}))


def test_names_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in memory, and compress well."""
    monkeypatch.setattr(archive_module, "NAMES_BYTES", 100_000)
    few = {f"{n}{'a' * 4000}": b"" for n in range(20)}
    read(tmp_path, [], archive(few))
    with pytest.raises(InvalidInput, match="not a tar archive"):
        read(tmp_path, [], archive(few | {f"{n}{'b' * 4000}": b"" for n in range(20)}))


@pytest.mark.parametrize(
    ("names", "clash"),
    [
        (["a", "a/b"], "a"), (["a/b/c", "a-b", "a/b", "a.b"], "a/b"), (["a/b", "a-", "a"], "a"),
        (["a", "a-/b", "ab/c", "a.b"], ""), (["a/b/c", "a/bc", "a/b.c"], ""),
    ],
)  # fmt: skip
def test_a_file_that_is_also_a_folder_is_found_whatever_is_beside_it(
    tmp_path: Path, names: list[str], clash: str
) -> None:
    """By one look at each name: 200 folders above each of 20000 files took half a minute."""
    given = archive(dict.fromkeys(names, b""))
    if not clash:
        read(tmp_path, [], given)
        return
    with pytest.raises(InvalidInput, match=re.escape(f"file '{clash}' is a file and a folder")):
        read(tmp_path, [], given)


def test_a_name_with_a_nul_is_none(tmp_path: Path) -> None:
    """It would be sorted as a slash, and no file of Linux has one."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("x")
        member.pax_headers = {"path": "a\0b"}
        tar.addfile(member)
    with pytest.raises(InvalidInput, match=r"is not below the folder|not a tar archive"):
        read(tmp_path, [], buffer.getvalue())
