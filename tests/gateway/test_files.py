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
from flyted.gateway.files import blobs
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
    stored = Blobs(tmp_path)
    with pytest.raises(HostFailure, match="input/output error"):
        asyncio.run(stored.keep(PLACE, chunks(), len(DATA), 1000))
    assert not stored.has(PLACE)
    assert list(tmp_path.iterdir()) == []


def test_one_user_leaves_room_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By files and by bytes; what others have stored is not a user's own."""
    stored = Blobs(tmp_path)

    def keep(name: str, uid: int) -> str:
        place = BlobKey("p1", "development", hashlib.md5(DATA).hexdigest(), name)
        try:
            return asyncio.run(stored.keep(place, chunks(), len(DATA), uid)).sha256
        except HostFailure as error:
            return error.message

    digest = hashlib.sha256(DATA).hexdigest()
    monkeypatch.setattr(blobs, "FILES", 4)
    assert [keep(f"{number}", 1) for number in range(3)] == [digest] * 3
    assert "your uploads" in keep("3", 1)
    monkeypatch.setattr(blobs, "FILES", 4000)
    monkeypatch.setattr(blobs, "FILE_BYTES", 0)
    monkeypatch.setattr(blobs, "TOTAL_BYTES", 5 * len(DATA))
    assert "your uploads" in keep("3", 1)
    assert [keep(f"{number}", 2) for number in range(3, 5)] == [digest] * 2
    assert "until the oldest" in keep("5", 2)


def test_a_recipe_and_a_key_are_flushed(tmp_path: Path, refused: None) -> None:
    """As everything else that the gateway keeps."""
    with pytest.raises(HostFailure, match="input/output error"):
        Recipes(tmp_path / "recipes", Folders(tmp_path / "folders")).keep("app:1", {}, "")
    with pytest.raises(OSError, match="input/output error"):
        Signer.open(tmp_path / "key")
    assert not (tmp_path / "key").exists()
