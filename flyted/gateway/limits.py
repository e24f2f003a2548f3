"""Bounds what a client may send, before any of it is interpreted: its size, its unpacked size and its form."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError

MESSAGE_BYTES = 4 << 20
"""The limit of a message. A secret's value is at most 512 KiB; apps with many variables are the largest messages."""


class BoundedGzip:
    """A gzip codec for Connect messages that unpacks at most ``MESSAGE_BYTES``."""

    def name(self) -> str:
        """Return the codec's name in headers."""
        return "gzip"

    def compress(self, data: bytes | bytearray | memoryview) -> bytes:
        """Compress an answer at the fastest level, since answers are small."""
        return gzip.compress(data, compresslevel=1)

    def decompress(self, data: bytes | bytearray | memoryview) -> bytes:
        """Unpack a message.

        Raise a ConnectError: ``resource_exhausted`` for a message that is too large, ``invalid_argument`` for data
        that is not gzip.
        """
        try:
            return inflate(bytes(data), MESSAGE_BYTES)
        except OverflowError:
            raise too_large() from None
        except (zlib.error, EOFError):
            raise ConnectError(Code.INVALID_ARGUMENT, "the message is not valid gzip") from None


class StrictCodec:
    """A codec of connectrpc that reports a failure as the client's, without the parser's text."""

    def __init__(self, codec: Any) -> None:
        self._codec = codec

    def name(self) -> str:
        """Return the codec's name in the content type."""
        return str(self._codec.name())

    def encode(self, message: Any) -> bytes:
        """Encode a message of the gateway's own, which cannot fail."""
        return bytes(self._codec.encode(message))

    def decode(self, data: Any, message: Any) -> Any:
        """Decode a message. Raise a ConnectError ``invalid_argument`` if it cannot be read."""
        try:
            return self._codec.decode(data, message)
        except Exception:  # noqa: BLE001  whatever a parser may raise
            raise ConnectError(Code.INVALID_ARGUMENT, "the message cannot be read") from None


def inflate(data: bytes, limit: int) -> bytes:
    """Return the content of gzip ``data``, of one member or several.

    Raise OverflowError if it is longer than ``limit`` bytes, zlib.error if it is not gzip, EOFError if it is cut off.
    """
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
    """Return the error for a message above the limit."""
    return ConnectError(Code.RESOURCE_EXHAUSTED, f"a message may be at most {MESSAGE_BYTES >> 20} MiB long")
