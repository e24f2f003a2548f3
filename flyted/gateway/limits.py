"""Bounds what a client may send, before any of it is interpreted: its size, its unpacked size and its form."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError

MESSAGE_BYTES = 1 << 20
"""The limit of a message. The largest is a secret's value of 512 KiB, which the SDK sends as it is."""
GROWN = 36
"""Bytes that one byte of a message may take once it is decoded: an empty message in a list is two bytes long."""
_GZIP_MEMBERS = 16


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
        except EOFError:
            raise ConnectError(Code.INVALID_ARGUMENT, "the message is cut off: its gzip data ends early") from None
        except zlib.error:
            raise ConnectError(Code.INVALID_ARGUMENT, "the message is not gzip data, or is damaged") from None
        except ValueError:
            many = f"the message is compressed in more than {_GZIP_MEMBERS} pieces"
            raise ConnectError(Code.INVALID_ARGUMENT, many) from None


class StrictCodec:
    """A codec of connectrpc that reports a failure as the client's, without the parser's text.

    ``hold`` is called with the bytes of memory that a message may take, before it is decoded.
    """

    def __init__(self, codec: Any, hold: Callable[[int], None]) -> None:
        self._codec, self._hold = codec, hold

    def name(self) -> str:
        """Return the codec's name in the content type."""
        return str(self._codec.name())

    def encode(self, message: Any) -> bytes:
        """Encode a message of the gateway's own, which cannot fail."""
        return bytes(self._codec.encode(message))

    def decode(self, data: Any, message: Any) -> Any:
        """Decode a message.

        Raise a ConnectError ``invalid_argument`` if it cannot be read, and what ``hold`` raises.
        """
        self._hold(GROWN * len(data))
        try:
            return self._codec.decode(data, message)
        except Exception:  # noqa: BLE001  whatever a parser may raise
            raise ConnectError(Code.INVALID_ARGUMENT, "the message cannot be read") from None


def inflate(data: bytes, limit: int) -> bytes:
    """Return the content of gzip ``data``, of one member or several.

    Raise OverflowError if it is longer than ``limit`` bytes, zlib.error if it is not gzip, EOFError if it is cut off,
    and ValueError if it has too many members: each copies what is left of the data.
    """
    found = bytearray()
    left, members = data, 0
    while left:
        if (members := members + 1) > _GZIP_MEMBERS:
            raise ValueError
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
