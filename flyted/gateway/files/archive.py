"""Reads an archive of a client: a tar.gz with plain names, files, folders and symbolic links, and within bounds.

It is unpacked to one file without a name; none of its members ever becomes a file of its own here.
"""

from __future__ import annotations

import contextlib
import itertools
import posixpath
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable

UNPACKED_BYTES = 256 << 20
"""The same as flytectl's limit for what an image copies."""
MEMBERS = 20_000
DEEPEST = 200
NAMES_BYTES = 16 << 20
"""The limit of all names together, since they are in memory."""
PIECES = 8192
"""The limit of gzip members. What bgzip(1) packs of ``UNPACKED_BYTES`` has half as many."""
_NAME_BYTES = 16 << 10  # of a header that only holds a long name
_READ = 1 << 16  # small, since each member of a gzip file copies what is left of it
_CHUNK = 1 << 20


class _Bounded(tarfile.TarInfo):
    """A member; tarfile reads the headers that only hold a long name into memory, whatever size they announce."""

    def _proc_member(self, archive: _Tar) -> tarfile.TarInfo:
        if not self.isreg():
            archive.names += self.size
            if self.size > _NAME_BYTES or archive.names > NAMES_BYTES:
                raise tarfile.ReadError("the headers are too large")
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return member


class _Tar(tarfile.TarFile):
    """An archive that counts in ``names`` the bytes of its headers with long names."""

    tarinfo = _Bounded
    names = 0


class Archive:
    """The files and symbolic links of an archive, by name. ``size``: the bytes of the unpacked archive."""

    def __init__(self, tar: tarfile.TarFile, size: int) -> None:
        self._tar, self._size = tar, size
        self.members: dict[str, tarfile.TarInfo] = {}
        for count, member in enumerate(tar):
            if count >= MEMBERS:
                raise InvalidInput(f"the image's files are more than {MEMBERS}")
            self._add(member)
        # in this order, what is below a name follows it at once
        for name, other in itertools.pairwise(sorted(self.members, key=lambda each: each.replace("/", "\0"))):
            if other.startswith(f"{name}/"):
                raise _refused(name, "is a file and a folder")

    def below(self, path: str) -> list[str]:
        """Return the name of the file at ``path``, or of all files below it ("." stands for all)."""
        return [name for name in self.members if path in {".", name} or name.startswith(f"{path}/")]

    def content(self, member: tarfile.TarInfo) -> IO[bytes]:
        """Return a regular file, open for reading."""
        return cast("IO[bytes]", self._tar.extractfile(member))

    def _add(self, member: tarfile.TarInfo) -> None:
        """Note a member; the last one of a name counts. Raise :class:`InvalidInput` for what is not passed on."""
        name = posixpath.normpath(member.name)
        if not member.name or "\0" in name or name.startswith(("/", "../")) or name == "..":
            raise _refused(member.name, "is not below the folder of the image's files")
        if name.count("/") >= DEEPEST:
            raise _refused(name, f"is more than {DEEPEST} folders deep")
        if member.isdir():
            return
        if not (member.issym() or member.isreg()) or member.sparse is not None:
            raise _refused(name, "is neither a file nor a folder nor a symbolic link")
        if member.size < 0 or (member.isreg() and member.offset_data + member.size > self._size):
            raise _refused(name, "is cut off")
        self.members[name] = member


@contextlib.contextmanager
def opened(packed: BinaryIO, place: Path) -> Iterator[Archive]:
    """Yield the archive in a tar.gz while the block runs. ``place``: a folder on whose disk it is unpacked.

    Raise :class:`InvalidInput` if it is no tar.gz, too large, or has a member that is not passed on, by its name.
    """
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(tempfile.TemporaryFile(dir=place))
        try:
            size = _inflate(packed, plain)
            plain.seek(0)
            archive = Archive(stack.enter_context(_Tar.open(fileobj=plain, mode="r:")), size)
        except EOFError as error:
            raise InvalidInput("the image's files are cut off: their gzip data ends early") from error
        except zlib.error as error:
            raise InvalidInput("the image's files are not gzip data, or are damaged") from error
        except (tarfile.TarError, RecursionError, ValueError, OverflowError) as error:
            raise InvalidInput("the image's files are not a tar archive, or one that cannot be read") from error
        yield archive


def _inflate(packed: BinaryIO, plain: IO[bytes]) -> int:
    """Unpack gzip data, of one member or several; return the number of bytes."""
    size, pieces, unpack = 0, 1, zlib.decompressobj(wbits=31)
    while chunk := packed.read(_READ):
        while chunk:
            if unpack.eof:
                if (pieces := pieces + 1) > PIECES:
                    raise InvalidInput(f"the image's files are compressed in more than {PIECES} pieces")
                unpack = zlib.decompressobj(wbits=31)
            data = unpack.decompress(chunk, _CHUNK)
            size += len(data)
            if size > UNPACKED_BYTES:
                raise InvalidInput(
                    f"the image's files are more than {UNPACKED_BYTES >> 20} MiB",
                    hint="copy fewer files; name the others in .dockerignore",
                )
            plain.write(data)
            chunk = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
    if not unpack.eof:
        raise EOFError
    return size


def _refused(name: str, why: str) -> InvalidInput:
    return InvalidInput(f"the image's file {printable(name)} {why}")
