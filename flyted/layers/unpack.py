"""Unpacks one layer of a pulled image over the layers below it: an archive from strangers, above files of strangers.

It runs inside a step's user namespace, where ``root`` is the overlay: removing a file there makes the kernel's own
whiteout. Nothing else may be mounted below ``root``. What is opened or loaded later than a call could not be found
after the step has changed its root, so the blob is opened before, and all modules are loaded with this one.

What differs from the archive: devices are left out (an app's ``/dev`` is systemd's), extended attributes too, and
files lose setuid and setgid (a root is mounted ``nosuid``; on the disk such a file would make its caller the owner of
all layers). Owners that the namespace does not have become nobody. Source: OCI image-spec, layer.md.

``tar`` follows links that the archive itself made, and knows neither whiteouts, nor owners without a mapping, nor
limits; ``tarfile`` reads a header of any size into memory. This code walks by descriptors and never follows the last
component of a path. It is faster than ``tar -xz``, because one thread decompresses ahead.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass, replace
from typing import BinaryIO

from . import archive
from .archive import Entry
from .compression import Plain
from .damaged import Damaged, printable
from .inside import OPEN_FOLDER, Folder, Inside
from .users import Owner

MOST_ENTRIES = 1_000_000
MOST_BYTES = 64 << 30
MOST_NAMES = 256 << 20
"""Bytes of all names together: those of folders are kept until the end."""
NOBODY = 65534
_LARGEST_ID = (1 << 32) - 2
_WHITEOUT, _OPAQUE, _AUFS = b".wh.", b".wh..wh..opq", b".wh..wh."
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_THE_MACHINES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


@dataclass
class Unpacked:
    """What a layer was made of."""

    entries: int = 0
    devices: int = 0  # left out
    whiteouts: int = 0
    strangers: int = 0  # with an owner that the namespace does not have


def unpack(
    blob: BinaryIO, media: str, root: str, *, most_bytes: int = MOST_BYTES, most_entries: int = MOST_ENTRIES
) -> Unpacked:
    """Unpack the layer in ``blob`` (open, at its begin) over ``root``, and return what it was made of.

    ``media``: the blob's media type, for messages; the compression is what the bytes are. ``most_bytes``: of the
    archive without compression. What was unpacked before an error stays: the layer's folder has to be removed.

    Raises :class:`Damaged` for an archive that is damaged, hostile or too large, ``OSError`` if the machine fails.
    """
    try:
        with Plain(blob, most_bytes) as plain, contextlib.closing(Inside(root)) as tree:
            return _Layer(plain, tree).unpack(most_entries)
    except Damaged as error:
        raise Damaged(f"the layer ({media}) cannot be unpacked: {error}") from None


def is_archive(file: BinaryIO) -> bool:
    """Report whether a file (open, at its begin, and so afterwards) is an archive, compressed or not."""
    try:
        with Plain(file, MOST_BYTES) as plain:
            return archive.is_header(plain.take(archive.BLOCK))
    except Damaged:
        return False
    finally:
        file.seek(0)


def add(file: BinaryIO, folder: str, owner: Owner | None) -> None:
    """Unpack an archive into ``folder``, as ADD of a Dockerfile does: links in it lead nowhere but into the folder.

    It is no layer: no name in it removes anything. ``owner``: of all of it; None: whom the archive names. Raises as
    :func:`unpack` does.
    """
    with Plain(file, MOST_BYTES) as plain, contextlib.closing(Inside(folder)) as tree:
        _Archive(plain, tree, owner).unpack(MOST_ENTRIES)


class _Layer:
    def __init__(self, plain: Plain, tree: Inside) -> None:
        self.plain = plain
        self.tree = tree
        self.found = Unpacked()
        self._times: dict[bytes, int] = {}  # of folders: they change until the last entry

    def unpack(self, most_entries: int) -> Unpacked:
        names = 0
        for entry in archive.entries(self.plain):
            self.found.entries += 1
            names += sum(map(len, entry.parts))
            if self.found.entries > most_entries:
                raise Damaged(f"it has more than {most_entries} entries")
            if names > MOST_NAMES:
                raise Damaged(f"its names have more than {MOST_NAMES >> 20} MB")
            try:
                self._entry(entry)
            except OSError as error:
                if error.errno in _THE_MACHINES:
                    raise
                raise Damaged(f"{printable(entry.name)}: {error.strerror}") from error
        self._set_times()
        return self.found

    def _entry(self, entry: Entry) -> None:
        if not entry.parts:
            if entry.kind == archive.FOLDER:
                self._attributes(self.tree.root, entry)
                self._times[b""] = entry.mtime
            return
        *head, name = entry.parts
        if name.startswith(_WHITEOUT):
            self._whiteout(tuple(head), name)
            self._skip(entry)
        elif entry.kind in (archive.CHARACTER, archive.DEVICE):
            self.found.devices += 1
        else:
            self._make(entry, tuple(head), name)

    def _make(self, entry: Entry, head: tuple[bytes, ...], name: bytes) -> None:
        folder = self.tree.folder(head, make=True)
        _MAKE[entry.kind](self, entry, folder, name)
        self.tree.touch(folder.below(name))

    def _whiteout(self, head: tuple[bytes, ...], name: bytes) -> None:
        """Remove what a whiteout names, if a layer below has it: not what this layer has made."""
        gone = name.removeprefix(_WHITEOUT)
        if gone in (b"", b".", b".."):
            raise Damaged(f"it has a whiteout without a name: {printable(name)}")
        if name.startswith(_AUFS) and name != _OPAQUE:
            return  # a note of the AUFS that wrote the archive
        self.found.whiteouts += 1
        with contextlib.suppress(FileNotFoundError):
            folder = self.tree.folder(head)
            if name == _OPAQUE:
                self.tree.clear_below(folder)
            else:
                self.tree.clear(folder, gone)

    def _skip(self, entry: Entry) -> None:
        for _ in self.plain.parts(entry.size):
            pass

    def _file(self, entry: Entry, folder: Folder, name: bytes) -> None:
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=folder.fd)
        except FileExistsError:
            self.tree.remove(folder, name)
            fd = os.open(name, _CREATE, 0o600, dir_fd=folder.fd)
        try:
            for part in self.plain.parts(entry.size):
                rest = part
                while rest:
                    rest = rest[os.write(fd, rest) :]
            self._attributes(fd, entry)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _folder(self, entry: Entry, folder: Folder, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=folder.fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=folder.fd).st_mode):
                self.tree.remove(folder, name)
                os.mkdir(name, 0o700, dir_fd=folder.fd)
        fd = os.open(name, OPEN_FOLDER, dir_fd=folder.fd)
        try:
            self._attributes(fd, entry)
        finally:
            os.close(fd)
        self._times[folder.below(name)] = entry.mtime

    def _symlink(self, entry: Entry, folder: Folder, name: bytes) -> None:
        if not entry.link or b"\0" in entry.link:
            raise Damaged(f"{printable(entry.name)} is a link to nothing")
        self._free(folder, name)
        os.symlink(entry.link, name, dir_fd=folder.fd)
        self._own(name, entry, folder)

    def _hard_link(self, entry: Entry, folder: Folder, name: bytes) -> None:
        parts = archive.components(entry.link)
        try:
            source = self.tree.opened(parts[:-1])
        except FileNotFoundError:
            source = None
        try:
            if source is None or not parts or not _exists(source, parts[-1]):
                raise Damaged(
                    f"{printable(entry.name)} is a hard link to {printable(entry.link)}, which does not exist"
                )
            if source.below(parts[-1]) != folder.below(name):
                self._free(folder, name)
                os.link(parts[-1], name, src_dir_fd=source.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
        finally:
            if source is not None:
                os.close(source.fd)

    def _fifo(self, entry: Entry, folder: Folder, name: bytes) -> None:
        self._free(folder, name)
        os.mkfifo(name, 0o600, dir_fd=folder.fd)
        os.chmod(name, entry.mode & 0o777, dir_fd=folder.fd)  # no link: it was made just now
        self._own(name, entry, folder)

    def _free(self, folder: Folder, name: bytes) -> None:
        if _exists(folder, name):
            self.tree.remove(folder, name)

    def _attributes(self, fd: int, entry: Entry) -> None:
        """Set owner and mode of an open file or folder. The owner comes first, since a change of it clears bits."""
        try:
            os.fchown(fd, _id(entry.uid), _id(entry.gid))
        except (OSError, OverflowError) as error:
            self._stranger(error)
            os.fchown(fd, NOBODY, NOBODY)
        os.fchmod(fd, entry.mode & (0o3777 if entry.kind == archive.FOLDER else 0o777))

    def _own(self, name: bytes, entry: Entry, folder: Folder) -> None:
        try:
            os.chown(name, _id(entry.uid), _id(entry.gid), dir_fd=folder.fd, follow_symlinks=False)
        except (OSError, OverflowError) as error:
            self._stranger(error)
            os.chown(name, NOBODY, NOBODY, dir_fd=folder.fd, follow_symlinks=False)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=folder.fd, follow_symlinks=False)

    def _stranger(self, error: OSError | OverflowError) -> None:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # user_namespaces(7): an id without a map
            raise error
        self.found.strangers += 1

    def _set_times(self) -> None:
        for path, mtime in self._times.items():
            try:
                folder = self.tree.folder(archive.components(path))
            except (OSError, Damaged):
                continue  # a later entry has replaced it
            os.utime(folder.fd, ns=(mtime, mtime))


class _Archive(_Layer):
    def __init__(self, plain: Plain, tree: Inside, owner: Owner | None) -> None:
        super().__init__(plain, tree)
        self._owner = owner

    def _entry(self, entry: Entry) -> None:
        if not entry.parts or entry.kind in (archive.CHARACTER, archive.DEVICE):
            return  # the folder itself stays as it is
        if self._owner is not None:
            entry = replace(entry, uid=self._owner.uid, gid=self._owner.gid)
        self._make(entry, entry.parts[:-1], entry.parts[-1])


_MAKE = {
    archive.FILE: _Layer._file,  # noqa: SLF001 - its own table
    archive.FOLDER: _Layer._folder,  # noqa: SLF001
    archive.SYMLINK: _Layer._symlink,  # noqa: SLF001
    archive.HARD_LINK: _Layer._hard_link,  # noqa: SLF001
    archive.FIFO: _Layer._fifo,  # noqa: SLF001
}


def _id(number: int) -> int:
    """Return the number of an owner. Raises ``OverflowError`` for what chown(2) takes for "as it is", and above."""
    if number > _LARGEST_ID:
        raise OverflowError
    return number


def _exists(folder: Folder, name: bytes) -> bool:
    try:
        os.lstat(name, dir_fd=folder.fd)
    except FileNotFoundError:
        return False
    return True
