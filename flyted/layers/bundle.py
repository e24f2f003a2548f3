"""Reads a bundle, which may be hostile: what a client sent, as an archive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from . import archive
from .compression import Plain
from .copying import Item
from .unpack import MOST_BYTES


def items(bundle: BinaryIO) -> Iterator[Item]:
    """Yield what is in a bundle; a content that is not read is passed over. Raises :class:`.damaged.Damaged`."""
    with Plain(bundle, MOST_BYTES) as plain:
        for entry in archive.entries(plain):
            content = plain.parts(entry.size)
            yield entry, content
            for _ in content:
                pass
