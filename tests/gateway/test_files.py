"""What the gateway stores is on the disk before it has its name: a power cut leaves no file that holds nothing."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flyted.contract.errors import HostFailure
from flyted.gateway.files.blobs import BlobKey, Blobs
from flyted.gateway.files.folders import Folders
from flyted.gateway.files.recipes import Recipes
from flyted.gateway.files.signing import Signer

DATA = b"code" * 1000
PLACE = BlobKey("p1", "development", hashlib.md5(DATA).hexdigest(), "fast1.tar.gz")


async def chunks() -> AsyncIterator[bytes]:
    yield DATA


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that cannot flush."""

    def refuse(_fd: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fsync", refuse)


def test_an_upload_that_cannot_be_flushed_is_not_there(tmp_path: Path, refused: None) -> None:
    """It would be taken for stored, and never sent again: a client remembers for a day what it has sent."""
    blobs = Blobs(tmp_path)
    with pytest.raises(HostFailure, match="input/output error"):
        asyncio.run(blobs.keep(PLACE, chunks(), len(DATA)))
    assert not blobs.has(PLACE)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_and_a_key_are_flushed(tmp_path: Path, refused: None) -> None:
    """As everything else that the gateway keeps."""
    with pytest.raises(HostFailure, match="input/output error"):
        Recipes(tmp_path / "recipes", Folders(tmp_path / "folders")).keep("app:1", {}, "")
    with pytest.raises(OSError, match="input/output error"):
        Signer.open(tmp_path / "key")
    assert not (tmp_path / "key").exists()
