"""An archive with more entries than any image has, against the limit that layers are made with."""

from __future__ import annotations

import io
import resource
import tarfile
import zlib
from pathlib import Path

import pytest

from flyted.layers import unpack
from flyted.layers.damaged import Damaged
from tests.layers.archives import GZIP, pax, raw

pytestmark = [pytest.mark.slow, pytest.mark.long]
MIB = 1 << 20


def archive(*parts: bytes, times: int) -> io.BytesIO:
    """An archive in which the same entries come again and again."""
    compressor, piece = zlib.compressobj(1, wbits=31), b"".join(parts)
    return io.BytesIO(b"".join([*(compressor.compress(piece) for _ in range(times)), compressor.flush()]))


def used(blob: io.BytesIO, root: Path, said: str) -> int:
    """The bytes of memory that were needed until the archive was refused."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Damaged, match=said):
        unpack.unpack(blob, GZIP, str(root))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def test_a_million_entries_and_one(tmp_path: Path) -> None:
    """Refused at the last, with little memory. They are devices: what takes long is not to make files."""
    entries = archive(raw(b"d/e", tarfile.CHRTYPE), times=unpack.MOST_ENTRIES + 1)
    assert used(entries, tmp_path, "more than 1000000 entries") < 32 * MIB


def test_names_without_end(tmp_path: Path) -> None:
    """4 KB each, of folders that are all different: before they fill the memory."""
    parts = [
        pax(path=f"{number:03}/".encode() + b"/".join([b"n" * 250] * 16)) + raw(b"x", tarfile.DIRTYPE)
        for number in range(64)
    ]
    times = unpack.MOST_NAMES // (64 * 4000) + 1
    assert used(archive(*parts, times=times), tmp_path, "its names have more than 256 MB") < 64 * MIB
