"""Unpacks an archive of an app's data from standard input: ``launch --import``, as the app's own user, in its sandbox.

Archives come from anywhere. Python's tarfile reads the headers; every name, link and size is checked here before a
file is made, below a folder that is opened once, without following a link. The first thing that is wrong ends the
import, and what the app has is not touched before all is unpacked (``imported``).

Refused: absolute names and ``..``; links that lead out of the data (or left out, if that is asked for); devices,
pipes, setuid files; what is both a file and a folder; names of flyted's own; more bytes than the disk has
room for, before they are written; and archives that are damaged or end too soon, which tarfile passes over.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import stat
import sys
import tarfile
from decimal import Decimal, InvalidOperation
from typing import IO, Any

from . import imported
from .refused import Refused
from .surroundings import first
from .words import CODE, IMPORTED, SKIP_LINKS

MOST_ENTRIES = 10_000_000
MOST_DEPTH = 100
_KEEP_FREE, _KEEP_PART = 1 << 30, 20
"""An import leaves this many bytes of the disk free, or, of a small disk, one part in so many."""
_CHUNK = 1 << 20
_LOOK = 64 << 20  # bytes after which the free space is looked at again, since others write too
_XATTR = "SCHILY.xattr."
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Header(tarfile.TarInfo):
    """A header of an archive. One that is damaged or missing raises ``Refused``, where tarfile would just stop."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Header:
        """Read the next header. Raise ``Refused`` for one that is damaged or missing."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the two empty blocks at the end
            archive.ended = True  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            if getattr(archive, "begun", False):
                raise Refused("the archive is damaged, or ends too soon") from error
            raise Refused(
                "this is not a tar archive (a compressed one is to be unpacked first: zcat FILE |)"
            ) from None
        finally:
            archive.begun = True  # type: ignore[attr-defined]


class Room:
    """The free space of the disk, of which an import leaves some."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._since = 0
        self.look()

    def look(self) -> None:
        """Read how much is free."""
        disk = os.statvfs(self._state)
        keep = min(_KEEP_FREE, disk.f_blocks * disk.f_frsize // _KEEP_PART)
        self.bytes, self._since = disk.f_bavail * disk.f_frsize - keep, 0
        self.files = disk.f_favail if disk.f_files else MOST_ENTRIES

    def need(self, size: int) -> None:
        """Raise ``Refused`` unless there is room for so many bytes."""
        if size > self.bytes:
            raise Refused(f"there is no room for it: it needs {size} bytes more, and {max(self.bytes, 0)} may be used")

    def took(self, size: int) -> None:
        """Count bytes that were written."""
        self.bytes -= size
        self._since += size
        if self._since > _LOOK:
            self.look()


class Unpacker:
    """What unpacks into the folder ``top``. Methods raise ``Refused``, and ``OSError`` if the disk refuses."""

    def __init__(self, top: str, room: Room, *, skip_links: bool) -> None:
        self._top = os.open(top, _FOLDER)
        self._room = room
        self._skip_links = skip_links
        self._folders: dict[tuple[str, ...], tuple[int, int]] = {}
        self.files = self.bytes = self.left_out = self._entries = 0

    def take(self, archive: tarfile.TarFile, header: tarfile.TarInfo) -> None:
        """Unpack one entry. Raise ``Refused`` for one that must not be there."""
        self._entries += 1
        if self._entries > min(MOST_ENTRIES, self._room.files):
            raise Refused(f"it has more than {self._entries - 1} files, more than there is room for")
        parts = parts_of(header.name)
        if not parts:
            if header.isdir():
                return  # the top itself
            raise Refused(f"{header.name!a} is no name of a file")
        if header.isdir():
            os.close(self._folder(parts))
            self._folders[parts] = (header.mode & 0o777, _time(header))
            return
        if parts == ("work",):
            raise Refused(f"{header.name!a} is not a folder")
        folder = self._folder(parts[:-1])
        try:
            self._make(archive, header, parts, folder)
        finally:
            os.close(folder)

    def finish(self) -> None:
        """Set the modes and times of the folders, the deepest first, and have all written to the disk."""
        for parts, (mode, time_ns) in sorted(self._folders.items(), key=lambda each: len(each[0]), reverse=True):
            folder = self._folder(parts)
            os.fchmod(folder, mode if len(parts) > 1 else mode | 0o700)  # one that is moved has to be writable
            os.utime(folder, ns=(time_ns, time_ns))
            os.close(folder)
        if ctypes.CDLL(None, use_errno=True).syncfs(self._top):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def _make(self, archive: tarfile.TarFile, header: tarfile.TarInfo, parts: tuple[str, ...], folder: int) -> None:
        name = parts[-1]
        if not (header.isreg() or header.issym() or header.islnk()):
            raise Refused(f"{header.name!a} is a device, a pipe, or of a kind that is not known")
        if header.mode & 0o6000 and not header.issym():
            raise Refused(f"{header.name!a} is a setuid or setgid file")
        if header.issym() and not leads_inside(parts, header.linkname):
            if not self._skip_links:
                raise Refused(f"{header.name!a} is a link that leads out of the data, to {header.linkname!a}")
            self.left_out += 1
            return
        _make_way(folder, name, header.name)
        if header.issym():
            os.symlink(header.linkname, name, dir_fd=folder)
            os.utime(name, ns=(_time(header), _time(header)), dir_fd=folder, follow_symlinks=False)
        elif header.islnk():
            self._hard_link(header, folder, name)
        else:
            self._file(archive, header, folder, name)
        self.files += not header.issym()

    def _hard_link(self, header: tarfile.TarInfo, folder: int, name: str) -> None:
        target = parts_of(header.linkname)
        try:
            there = self._folder(target[:-1], make=False)
            try:
                if not target or not stat.S_ISREG(os.lstat(target[-1], dir_fd=there).st_mode):
                    raise Refused(
                        f"{header.name!a} is a link to {header.linkname!a}, which is not a file of the archive"
                    )
                os.link(target[-1], name, src_dir_fd=there, dst_dir_fd=folder, follow_symlinks=False)
            finally:
                os.close(there)
        except FileNotFoundError:
            raise Refused(
                f"{header.name!a} is a link to {header.linkname!a}, which is not in the archive before it"
            ) from None

    def _file(self, archive: tarfile.TarFile, header: tarfile.TarInfo, folder: int, name: str) -> None:
        holes: Any = header.sparse  # of a file with holes, the places of its data, which lies together in the archive
        pieces = [(int(at), int(size)) for at, size in holes] if holes else [(0, header.size)]
        needed = sum(size for _at, size in pieces)
        if min(needed, header.size, *(each for pair in pieces for each in pair)) < 0:
            raise Refused(f"{header.name!a} has a size that makes no sense")
        self._room.need(needed)
        source: Any = archive.fileobj
        source.seek(header.offset_data)
        handle = os.open(name, _NEW, 0o600, dir_fd=folder)
        try:
            os.ftruncate(handle, header.size)
            for at, size in pieces:
                self._piece(source, handle, at, size, header)
            for key, value in header.pax_headers.items():
                if key.startswith(f"{_XATTR}user."):
                    with contextlib.suppress(OSError):  # this file system may have none
                        os.setxattr(handle, key[len(_XATTR) :], value.encode("utf-8", "surrogateescape"))
            os.fchmod(handle, header.mode & 0o777)
            os.utime(handle, ns=(_time(header), _time(header)))
        finally:
            os.close(handle)
        self.bytes += header.size

    def _piece(self, source: IO[bytes], handle: int, at: int, size: int, header: tarfile.TarInfo) -> None:
        if at + size > header.size:
            raise Refused(f"{header.name!a} has a size that makes no sense")
        while size > 0:
            data = source.read(min(size, _CHUNK))
            if not data:
                raise Refused("the archive is damaged, or ends too soon")
            self._room.need(len(data))
            os.pwrite(handle, data, at)
            at, size = at + len(data), size - len(data)
            self._room.took(len(data))

    def _folder(self, parts: tuple[str, ...], *, make: bool = True) -> int:
        """Open a folder below the top, through folders only; make those that are missing. The caller closes it."""
        handle = os.dup(self._top)
        for part in parts:
            try:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=handle)
                below = os.open(part, _FOLDER, dir_fd=handle)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                raise Refused(f"{'/'.join(parts)!a} is below {part!a}, which is a file or a link") from None
            finally:
                os.close(handle)
            handle = below
        return handle


def parts_of(name: str) -> tuple[str, ...]:
    """Return the parts of a name in an archive. Raise ``Refused`` unless it is below the folder of the data."""
    if name.startswith("/"):
        raise Refused(f"{name!a} is an absolute name")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise Refused(f"{name!a} leads out of the data")
    if len(parts) > MOST_DEPTH or any(len(os.fsencode(part)) > 255 or "\0" in part for part in parts):
        raise Refused(f"the name {name[:80]!a} is too long or too deep")
    if parts[:1] in ((CODE,), (IMPORTED,)):
        raise Refused(f"{name!a}: {parts[0]} is a folder of flyted's own, not of the app's data")
    return parts


def leads_inside(parts: tuple[str, ...], target: str) -> bool:
    """Report whether a symbolic link leads to something below the folder of the data.

    ``..`` may only come first: after a name, which may be a link itself, nobody knows where it leads.
    """
    words = [word for word in target.split("/") if word not in ("", ".")]
    up = next((at for at, word in enumerate(words) if word != ".."), len(words))
    return bool(target) and not target.startswith("/") and up < len(parts) and ".." not in words[up:]


def _make_way(folder: int, name: str, whole: str) -> None:
    """Remove a file of this name: as with tar, the later of two counts. A folder stays, and that is ``Refused``."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        raise Refused(f"{whole!a} is both a file and a folder") from None


def _time(header: tarfile.TarInfo) -> int:
    """Return the time of a file in nanoseconds; tarfile's own number is a float, which has too few digits for it."""
    try:
        found = int(Decimal(header.pax_headers.get("mtime", "") or str(header.mtime)) * 10**9)
    except (InvalidOperation, ValueError, OverflowError):
        return 0
    return min(max(found, -(1 << 31) * 10**9), (1 << 33) * 10**9)


def unpack(source: IO[bytes], state: str, *, skip_links: bool) -> dict[str, int]:
    """Unpack an archive, put it in the place of what the app has, and return what was counted.

    Raise ``Refused`` or ``OSError`` if that is not possible; then nothing has changed.
    """
    top = os.path.join(state, IMPORTED)
    if os.path.lexists(top):
        imported.settle(state)
    _check_mounts(state)
    os.mkdir(top, 0o700)
    with imported.held(top):
        try:
            new = os.path.join(top, "new")
            os.mkdir(new, 0o700)
            unpacker = Unpacker(new, Room(state), skip_links=skip_links)
            with tarfile.open(fileobj=source, mode="r|", bufsize=_CHUNK, tarinfo=Header) as archive:
                while (header := archive.next()) is not None:
                    unpacker.take(archive, header)
                    archive.members = []  # type: ignore[attr-defined]  # else it keeps all headers
                if not getattr(archive, "ended", False):
                    raise Refused("the archive ends too soon")
            unpacker.finish()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a client that leaves now comes too late
            imported.commit(state)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is there goes in any case
            imported.clear(state)
    return {"files": unpacker.files, "bytes": unpacker.bytes, "left_out": unpacker.left_out}


def _check_mounts(state: str) -> None:
    """Raise ``Refused`` if something is mounted in the app's folder: it could not be replaced as a whole."""
    real = os.path.realpath(state)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        found = [line.split(" ")[4] for line in mounts]
    for path in found:
        if path.startswith((f"{real}/", f"{state}/")):
            raise Refused(f"something is mounted in its folder, at {path!a}; unmount it first")


def _cancel(_signum: int, _frame: object) -> None:
    """End an import whose client has left, or whose app is being deleted. Raise ``Refused``, as for a bad archive."""
    raise Refused("it was cancelled")


def main(words: list[str]) -> int:
    """Unpack standard input; write one JSON object to standard error: what was unpacked, or ``error``."""
    state = first(os.environ, "STATE_DIRECTORY")
    signal.signal(signal.SIGTERM, _cancel)
    try:
        said: dict[str, object] = dict(unpack(sys.stdin.buffer, state, skip_links=words == [SKIP_LINKS]))
    except Refused as why:
        said = {"error": str(why)}
    except tarfile.TarError:
        said = {"error": "the archive is damaged, or ends too soon"}
    except OSError as failed:
        said = {"error": failed.strerror or "it failed"}
    except (ValueError, MemoryError, RecursionError, OverflowError) as failed:  # of headers that make no sense
        said = {"error": f"the archive is damaged ({type(failed).__name__})"}
    json.dump(said, sys.stderr)
    return 1 if "error" in said else 0
