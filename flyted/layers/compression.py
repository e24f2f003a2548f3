"""Reads a layer's blob as plain bytes, in a thread of its own: zlib and libzstd let the others run meanwhile.

The compression is taken from the first bytes, as every container runtime does: media types in manifests are often
wrong. zstd is the distribution's python3-zstandard, which is loaded here and not when it is needed, since a step that
unpacks no longer sees the machine's files.

The package is dpkg's libzstd in the same process; a program would have to be found in a root that is not the
machine's. From Python 3.14 on, the standard library has zstd.
"""

from __future__ import annotations

import bz2
import contextlib
import lzma
import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Self

import zstandard

from .damaged import Damaged

PIECE = 1 << 20
_READ = 1 << 16  # small, since each member of a gzip file copies what is left of it (eStargz has one per file)
_AHEAD = 8  # pieces
_GZIP, _ZSTD, _SKIPPABLE = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
_BZIP2, _XZ = b"BZh", b"\xfd7zX"
_WINDOW = 1 << 27  # bytes: the most that zstd(1) accepts by itself
_MOST_MEMORY = 1 << 27  # bytes that xz may take: `xz -9` needs half of it


class Plain:
    """The uncompressed bytes of ``blob``, at most ``most`` of them. Use it in a ``with`` statement."""

    def __init__(self, blob: BinaryIO, most: int) -> None:
        self._pieces: queue.Queue[bytes | Exception | None] = queue.Queue(_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(blob,), daemon=True)
        self._piece, self._at, self._room = memoryview(b""), 0, most
        self._ended = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._pieces.get(timeout=0.05)  # so that a waiting put() continues

    def parts(self, size: int) -> Iterator[memoryview]:
        """Yield the next ``size`` bytes in parts.

        Raises :class:`Damaged` if there are fewer, or more than ``most`` in all.
        """
        while size > 0:
            if self.at_end():
                raise Damaged("it ends in the middle of its archive")
            part = self._piece[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            yield part

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes. Raises as :meth:`parts` does."""
        end = self._at + size
        if end <= len(self._piece):
            self._at, start = end, self._at
            return self._piece[start:end].tobytes()
        return b"".join(self.parts(size))

    def at_end(self) -> bool:
        """Report whether there are no more bytes. Raises as :meth:`read` does."""
        if self._at == len(self._piece) and not self._ended:
            piece = self._pieces.get()
            if isinstance(piece, Exception):
                raise piece
            self._ended = piece is None
            self._piece, self._at = memoryview(piece or b""), 0
            self._room -= len(self._piece)
            if self._room < 0:
                raise Damaged("it holds more bytes than a layer may have")
        return self._ended

    def _fill(self, blob: BinaryIO) -> None:
        end: Exception | None = None
        try:
            for piece in _decompressed(blob):
                self._pieces.put(piece)
                if self._stopped.is_set():
                    return
        except (zlib.error, zstandard.ZstdError, lzma.LZMAError, EOFError) as error:
            end = Damaged(f"its compression is damaged: {error}")
        except Exception as error:  # noqa: BLE001 - raised where the pieces are read
            end = error
        self._pieces.put(end)


def _decompressed(blob: BinaryIO) -> Iterator[bytes]:
    head = blob.read(len(_ZSTD))
    blob.seek(0)
    if head.startswith(_GZIP):
        return _gunzipped(blob)
    if head == _ZSTD or head[1:] == _SKIPPABLE:
        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(blob, read_across_frames=True)
        return iter(lambda: reader.read(PIECE), b"")
    if head.startswith(_BZIP2):
        return _by(blob, bz2.BZ2Decompressor, _BZIP2)
    if head == _XZ:
        return _by(blob, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _MOST_MEMORY), _XZ)
    return iter(lambda: blob.read(PIECE), b"")


def _by(
    blob: BinaryIO, make: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor], begin: bytes
) -> Iterator[bytes]:
    """Yield the content of all streams, in pieces. What follows them is ignored, as their programs do."""
    data = blob.read(_READ)
    while data.startswith(begin):
        stream = make()
        while not stream.eof:
            if stream.needs_input and not data:
                data = blob.read(_READ)
                if not data:
                    raise EOFError("it is cut off")
            piece, data = _piece(stream, data), b""
            if piece:
                yield piece
        data = stream.unused_data or blob.read(_READ)


def _piece(stream: bz2.BZ2Decompressor | lzma.LZMADecompressor, data: bytes) -> bytes:
    try:
        return stream.decompress(data, PIECE)
    except OSError as error:  # bz2 has no error of its own
        raise EOFError(str(error)) from error


def _gunzipped(blob: BinaryIO) -> Iterator[bytes]:
    """Yield the content of all members, whose checksums zlib compares. gzip(1) ignores what follows them, too."""
    data = blob.read(_READ)
    while data.startswith(_GZIP[:1]):
        member = zlib.decompressobj(31)
        while not member.eof:
            data = data or blob.read(_READ)
            if not data:
                raise EOFError("it is cut off")
            piece = member.decompress(data, PIECE)
            data = member.unconsumed_tail
            if piece:
                yield piece
        data = member.unused_data or blob.read(_READ)
