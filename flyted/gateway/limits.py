"""Bounds on what a client may send before anything of it is believed: size, unpacked size, and shape."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError

MESSAGE_BYTES = 4 << 20
"""A secret's value is at most 512 KiB; the largest messages are apps with long lists of variables."""


class BoundedGzip:
    """gzip for Connect messages that does not unpack bombs."""

    def name(self) -> str:
        """As it is called in headers."""
        return "gzip"

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        """Answers are small: quickly."""
        return gzip.compress(data, compresslevel=1)

    def decompress(self, data: bytes | bytearray | memoryview) -> bytes:
        """Raises a Connect error: ``resource_exhausted`` for what is too large, ``invalid_argument`` for no gzip."""
        try:
            return inflate(bytes(data), MESSAGE_BYTES)
        except OverflowError:
            raise too_large() from None
        except (zlib.error, EOFError):
            raise ConnectError(Code.INVALID_ARGUMENT, "the message is not valid gzip") from None


class StrictCodec:
    """A codec of connectrpc whose failure is the client's fault, told without the parser's words."""

    def __init__(self, codec: Any) -> None:
        self._codec = codec

    def name(self) -> str:
        """As in the content type."""
        return str(self._codec.name())

    def encode(self, message: Any) -> bytes:
        """Ours: cannot fail."""
        return bytes(self._codec.encode(message))

    def decode(self, data: Any, message: Any) -> Any:
        """Raises ``invalid_argument`` for what is no such message."""
        try:
            return self._codec.decode(data, message)
        except Exception:  # noqa: BLE001  whatever a parser may raise
            raise ConnectError(Code.INVALID_ARGUMENT, "the message cannot be read") from None


def inflate(data: bytes, limit: int) -> bytes:
    """What gzip ``data`` holds. Raises ``OverflowError`` above ``limit`` bytes, ``zlib.error`` or ``EOFError``."""
    found = bytearray()
    left = data
    while left:
        unpack = zlib.decompressobj(wbits=31)
        found += unpack.decompress(left, limit + 1 - len(found))
        if len(found) > limit:
            raise OverflowError
        if not unpack.eof:
            raise EOFError
        left = unpack.unused_data
    return bytes(found)


def too_large() -> ConnectError:
    """For a message above the bound."""
    return ConnectError(Code.RESOURCE_EXHAUSTED, f"a message may be at most {MESSAGE_BYTES >> 20} MiB long")
