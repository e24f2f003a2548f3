"""What a client sends for an image: descriptions that are none, and archives that attack."""

from __future__ import annotations

import contextlib
import gzip
import tarfile
from pathlib import Path

import pytest

from flyted.contract.errors import InvalidInput
from flyted.gateway.files import archive as archive_module
from flyted.gateway.files import context
from flyted.gateway.files.folders import Folders
from tests.gateway.test_images import FILE, archive, spec

pytestmark = pytest.mark.slow


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.type, member.linkname = kind, target
    return member


WANTED = "_flyte_abs_context/tmp/req.txt"
ATTACKS: dict[str, bytes] = {
    "no archive": b"x" * 1000,
    "no gzip in gzip": gzip.compress(b"x" * 1000),
    "cut off": archive({WANTED: b"a" * 5000})[:-20],
    "symbolic link": archive({WANTED: link(tarfile.SYMTYPE, "/etc/shadow")}),
    "hard link": archive({WANTED: link(tarfile.LNKTYPE, "/etc/shadow")}),
    "device": archive({WANTED: link(tarfile.CHRTYPE, "")}),
    "bomb": gzip.compress(b"\0" * (archive_module.UNPACKED_BYTES + 1)),
    "large file": archive({WANTED: b"a" * (context.TEXT_BYTES + 1)}),
    "no text": archive({WANTED: b"\xff\xfe"}),
    "empty": b"",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_context_that_attacks_is_refused_or_says_nothing(tmp_path: Path, attack: str) -> None:
    """Links, devices, bombs and nonsense: an error of ours, or no text of the file; nothing is ever written."""
    (tmp_path / "spec.pb").write_bytes(spec(FILE))
    (tmp_path / "context").write_bytes(ATTACKS[attack])
    folders = Folders(tmp_path / "folders")
    before = sorted(tmp_path.rglob("*"))
    with contextlib.suppress(InvalidInput):
        assert context.image_of(tmp_path / "spec.pb", tmp_path / "context", folders)["files"] == {}
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b"x" * (context.SPEC_BYTES + 1)])
def test_a_spec_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    """Without the parser's words."""
    (tmp_path / "spec.pb").write_bytes(content)
    with pytest.raises(InvalidInput, match="image's description"):
        context.image_of(tmp_path / "spec.pb", None, Folders(tmp_path / "folders"))
