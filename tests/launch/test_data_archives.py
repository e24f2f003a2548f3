"""What an app keeps, as an archive and back: by the very programs that the units run, on folders of this test."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyted.launch.export import _HARMLESS
from flyted.launch.imported import settle
from flyted.launch.refused import Refused

LAUNCH = Path(__file__).parents[2] / "flyted" / "launch"
NAME = "flyted-app-notes"


class Folders:
    """The folders that systemd gives to a unit of an app."""

    def __init__(self, top: Path) -> None:
        self.state, self.cache = top / "lib" / NAME, top / "cache" / NAME
        for folder in (self.state, self.cache):
            folder.mkdir(parents=True)

    def run(self, *words: str, source: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """What the program says, and writes."""
        environment = {
            "STATE_DIRECTORY": str(self.state), "CACHE_DIRECTORY": str(self.cache), "LANG": "C.UTF-8",
            "PATH": os.environ["PATH"],
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-IS", LAUNCH, *words], input=source, capture_output=True, env=environment, check=False
        )
        said = json.loads(done.stderr)
        assert done.returncode == (1 if said.get("error") else 0)
        return said, done.stdout

    def exported(self) -> bytes:
        """The archive."""
        said, archive = self.run("--export")
        assert said["error"] == ""
        return archive

    def imported(self, archive: bytes, *words: str) -> dict[str, Any]:
        """What an import says."""
        return self.run("--import", *(words or ("refuse-links",)), source=archive)[0]

    def tree(self) -> dict[str, str]:
        """Every file with its content, every link with its target, every folder."""
        found = {}
        for path in sorted(self.state.rglob("*")):
            name = str(path.relative_to(self.state))
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            else:
                found[name] = "/" if path.is_dir() else path.read_text(errors="replace")
        return found


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """An app's, with some notes in them."""
    made = Folders(tmp_path / "one")
    (made.state / "work").mkdir()
    (made.state / "work" / "notes.db").write_text("milk")
    return made


def archive(*entries: tuple[str, bytes, dict[str, Any]]) -> bytes:
    """An archive of entries: a name, a type, and other fields of its header; ``data`` is the content."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as made:
        for name, kind, more in entries:
            header = tarfile.TarInfo(name)
            header.type, header.mode = kind, 0o644
            data = more.pop("data", b"")
            header.size = len(data)
            for key, value in more.items():
                setattr(header, key, value)
            made.addfile(header, io.BytesIO(data))
    return written.getvalue()


def test_what_is_exported_can_be_imported_elsewhere_as_it_was(folders: Folders, tmp_path: Path) -> None:
    """Names in every script, and in none; times to the nanosecond; holes; hard links; modes; own attributes."""
    work, home = folders.state / "work", folders.state
    (work / "ünïcödé ☃.txt").write_text("name")
    (work / os.fsdecode(b"latin-\xe9")).write_text("no UTF-8")
    (work / "new\nline").write_text("control")
    (home / ".config").mkdir(mode=0o750)
    (home / ".config" / "x").write_text("home")
    long = work / ("d" * 120) / ("f" * 200)
    long.parent.mkdir()
    long.write_text("long")
    with (work / "sparse").open("wb") as file:
        file.seek(64 << 20)
        file.write(b"end")
        file.seek(1 << 20)
        file.write(b"middle")
    os.link(work / "notes.db", work / "second name")
    (work / "relative").symlink_to("notes.db")
    (work / "up").symlink_to("../.config/x")
    (work / "script").write_text("#!/bin/sh\n")
    (work / "script").chmod(0o754)
    os.utime(work / "notes.db", ns=(1, 1_600_000_000_123_456_789))
    os.utime(work / "script", ns=(1, -5_000_000_001))
    os.utime(home / ".config", ns=(1, 1_500_000_000_000_000_001))
    before, bytes_ = folders.tree(), folders.exported()
    assert len(bytes_) < 1 << 20
    other = Folders(tmp_path / "two")
    said = other.imported(bytes_)
    assert (said["files"], said["left_out"]) == (9, 0)
    assert other.tree() == before
    there = other.state / "work"
    assert (there / "notes.db").stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert (there / "script").stat().st_mtime_ns == -5_000_000_001
    assert (other.state / ".config").stat().st_mtime_ns == 1_500_000_000_000_000_001
    assert (there / "script").stat().st_mode & 0o777 == 0o754
    assert (other.state / ".config").stat().st_mode & 0o777 == 0o750
    assert (there / "notes.db").stat().st_ino == (there / "second name").stat().st_ino
    sparse = (there / "sparse").stat()
    assert (sparse.st_size, sparse.st_blocks * 512 < 1 << 20) == ((64 << 20) + 3, True)


def test_code_is_not_data_but_what_the_app_changed_beside_it_is(folders: Folders) -> None:
    """The links of a deploy, and the unpacked bundle, come with the next one."""
    digest = "a" * 64
    code, work = folders.state / "code" / digest, folders.state / "work"
    code.mkdir(parents=True)
    link = f"/var/cache/{NAME}/revision/code"
    for name, text in (("main.py", "code"), ("seed.json", "0")):
        (code / name).write_text(text)
        (work / name).symlink_to(f"{link}/{name}")
    found = [(name, (code / name).stat()) for name in ("main.py", "seed.json")]
    files = [[name, each.st_size, each.st_mtime_ns] for name, each in found]
    (code.parent / f"{digest}.json").write_text(json.dumps({"files": files, "folders": []}))
    (code / "seed.json").write_text("in place: 1")
    (code / "beside.db").write_text("beside")
    (folders.state / "code" / ".image.json").write_text(json.dumps(["/srv", ["page"]]))
    (work / "page").symlink_to("/srv/page")
    (work / "own").symlink_to("/srv/other")
    with tarfile.open(fileobj=io.BytesIO(folders.exported())) as made:
        names = {each.name.removesuffix("/") for each in made.getmembers()}
    assert names == {"work", "work/notes.db", "work/own", "work/seed.json", "work/beside.db"}


def test_sockets_and_pipes_are_left_out_and_said(folders: Folders) -> None:
    """They mean nothing elsewhere."""
    os.mkfifo(folders.state / "work" / "pipe")
    said, _ = folders.run("--export")
    assert (said["files"], said["left_out"], said["changed"]) == (1, 1, False)


@pytest.mark.parametrize(
    ("said", "harmless"),
    [
        ("work/f1: Cannot stat: No such file or directory", True),
        ("work/f102: Cannot open: No such file or directory", True),
        ("work/link: Cannot readlink: No such file or directory", True),
        ("work/f1: Warning: Cannot flistxattr: No such file or directory", True),
        ("work/f1: File removed before we read it", True),
        ("Exiting with failure status due to previous errors", True),
        ("work/f1: Cannot open: Permission denied", False),
        ("work/f1: Read error at byte 0, while reading 512 bytes: Input/output error", False),
    ],
)
def test_a_file_that_goes_while_tar_reads_fails_no_export(said: str, *, harmless: bool) -> None:
    """tar says so by what it tried last."""
    assert (_HARMLESS.fullmatch(f"/usr/bin/tar: {said}") is not None) == harmless


def test_an_export_that_nobody_reads_or_that_is_killed_is_none(folders: Folders) -> None:
    """tar ends by a signal then."""
    (folders.state / "work" / "large").write_bytes(bytes(1 << 20))
    environment = {"STATE_DIRECTORY": str(folders.state), "CACHE_DIRECTORY": str(folders.cache), "PATH": "/usr/bin"}
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-IS", LAUNCH, "--export"],
        stdout=writing,
        stderr=subprocess.PIPE,
        env=environment,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, json.loads(done.stderr)["error"] != "") == (1, True)


def test_an_import_replaces_all_and_keeps_code(folders: Folders) -> None:
    """What the archive does not have is gone afterwards, and no trace of the import is left."""
    (folders.state / "code").mkdir()
    (folders.state / "code" / ".stamp").symlink_to("x")
    folders.imported(archive(("work/other", tarfile.REGTYPE, {"data": b"tea"}), ("home", tarfile.REGTYPE, {})))
    assert folders.tree() == {"code": "/", "code/.stamp": "-> x", "work": "/", "work/other": "tea", "home": ""}


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "absolute": (lambda: archive(("/etc/x", tarfile.REGTYPE, {})), "absolute name"),
    "up": (lambda: archive(("work/../../x", tarfile.REGTYPE, {})), "leads out of the data"),
    "dots": (lambda: archive(("..", tarfile.DIRTYPE, {})), "leads out of the data"),
    "link out": (lambda: archive(("work/x", tarfile.SYMTYPE, {"linkname": "/etc/passwd"})), "leads out of the data"),
    "link up": (lambda: archive(("work/x", tarfile.SYMTYPE, {"linkname": "../../x"})), "leads out of the data"),
    "link down and up": (lambda: archive(("a/x", tarfile.SYMTYPE, {"linkname": "b/../../.."})), "leads out of"),
    "empty link": (lambda: archive(("a/x", tarfile.SYMTYPE, {"linkname": ""})), "leads out of the data"),
    "through a link": (
        lambda: archive(
            ("a", tarfile.DIRTYPE, {}), ("b", tarfile.SYMTYPE, {"linkname": "a"}), ("b/x", tarfile.REGTYPE, {})
        ),
        "is below 'b', which is a file or a link",
    ),
    "through a file": (lambda: archive(("a", tarfile.REGTYPE, {}), ("a/x", tarfile.REGTYPE, {})), "a file or a link"),
    "folder, then file": (lambda: archive(("a/x", tarfile.REGTYPE, {}), ("a", tarfile.REGTYPE, {})), "both a file"),
    "hard link out": (lambda: archive(("x", tarfile.LNKTYPE, {"linkname": "/etc/passwd"})), "absolute name"),
    "hard link up": (lambda: archive(("x", tarfile.LNKTYPE, {"linkname": "../notes"})), "leads out of the data"),
    "hard link to what is there": (lambda: archive(("x", tarfile.LNKTYPE, {"linkname": "work/a.db"})), "before it"),
    "hard link to a link": (
        lambda: archive(("a", tarfile.SYMTYPE, {"linkname": "b"}), ("x", tarfile.LNKTYPE, {"linkname": "a"})),
        "not a file of the archive",
    ),
    "device": (lambda: archive(("x", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 3})), "a device"),
    "disk": (lambda: archive(("x", tarfile.BLKTYPE, {"devmajor": 8})), "a device"),
    "pipe": (lambda: archive(("x", tarfile.FIFOTYPE, {})), "a pipe"),
    "setuid": (lambda: archive(("x", tarfile.REGTYPE, {"mode": 0o4755})), "setuid"),
    "setgid": (lambda: archive(("x", tarfile.REGTYPE, {"mode": 0o2755})), "setgid"),
    "code": (lambda: archive(("code/x", tarfile.REGTYPE, {})), "flyted's own"),
    "an import in an import": (lambda: archive((".flyted-import/x", tarfile.REGTYPE, {})), "flyted's own"),
    "the working folder as a link": (lambda: archive(("work", tarfile.SYMTYPE, {"linkname": "x"})), "not a folder"),
    "deep": (lambda: archive(("x/" * 200, tarfile.DIRTYPE, {})), "too deep"),
    "long": (lambda: archive(("x" * 300, tarfile.REGTYPE, {})), "too long"),
    "no tar": (lambda: b"hello" * 1000, "not a tar archive"),
    "compressed": (lambda: b"\x1f\x8b\x08" + bytes(range(256)) * 4, "not a tar archive"),
    "nothing": (lambda: b"", "not a tar archive"),
    "cut off": (lambda: archive(("x", tarfile.REGTYPE, {"data": b"x" * 5000}))[:3000], "ends too soon"),
    "cut between": (lambda: archive(("x", tarfile.REGTYPE, {"data": b"x" * 512}))[:1024], "ends too soon"),
    "damaged": (lambda: bytes(_damaged()), "damaged, or ends too soon"),
    "a bomb": (lambda: _header(1 << 60), "no room"),
    "a bomb with holes": (lambda: _sparse([(0, 1 << 58)], 1 << 59), "no room"),
    "data beyond its end": (lambda: _sparse([(4096, 512)], 1024), "makes no sense"),
    "less than nothing": (lambda: _sparse([(0, -512)], 1024), "damaged|makes no sense"),
}  # fmt: skip


def _damaged() -> bytes:
    good = bytearray(archive(("x", tarfile.REGTYPE, {"data": b"x"}), ("y", tarfile.REGTYPE, {"data": b"y"})))
    good[1024 + 10] ^= 255
    return bytes(good)


def _header(size: int) -> bytes:
    header = tarfile.TarInfo("x")
    header.size = size
    return header.tobuf(tarfile.GNU_FORMAT)


def _sparse(pieces: list[tuple[int, int]], size: int) -> bytes:
    """A file with holes, as GNU tar writes it (PAX, version 0.1)."""
    listed = ",".join(f"{at},{length}" for at, length in pieces)
    header = tarfile.TarInfo("x")
    header.pax_headers = {"GNU.sparse.map": listed, "GNU.sparse.size": str(size), "GNU.sparse.numblocks": "1"}
    header.size = 512
    return header.tobuf(tarfile.PAX_FORMAT) + bytes(512) + bytes(1024)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_changes_nothing(folders: Folders, tmp_path: Path, kind: str) -> None:
    """One wrong entry is enough, also after good ones; nothing outside of the folder is written."""
    make, why = HOSTILE[kind]
    before = folders.tree()
    said = folders.imported(make())
    assert set(said) == {"error"}
    assert re.search(why, said["error"]), said
    assert folders.tree() == before
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["cache", "lib"]


def test_links_that_lead_out_can_be_left_out(folders: Folders) -> None:
    """As a virtual environment has them; what follows by their name is a file like any other."""
    made = archive(
        ("work/venv/bin/python", tarfile.SYMTYPE, {"linkname": "/usr/bin/python3"}),
        ("work/out", tarfile.SYMTYPE, {"linkname": "/etc"}), ("work/out/x", tarfile.REGTYPE, {"data": b"in"}),
    )  # fmt: skip
    said = folders.imported(made, "skip-links")
    assert (said["files"], said["left_out"]) == (1, 2)
    assert folders.tree()["work/out/x"] == "in"


@pytest.mark.parametrize("mark", ["", "replace", "place"])
def test_an_import_that_was_cut_off_is_completed_or_undone_by_the_next(folders: Folders, mark: str) -> None:
    """Before the first mark nothing has happened; after it everything will."""
    top = folders.state / ".flyted-import"
    (top / "new" / "work").mkdir(parents=True)
    (top / "new" / "work" / "new.db").write_text("tea")
    if mark:
        (top / "old").mkdir()
        (top / mark).touch()
    if mark == "place":
        (folders.state / "work").rename(top / "old" / "work")
    code = (
        f"import sys; sys.path.insert(0, {str(LAUNCH.parents[1])!r})\n"
        f"from flyted.launch.imported import settle; settle({str(folders.state)!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    wanted = {"work": "/", "work/new.db": "tea"} if mark else {"work": "/", "work/notes.db": "milk"}
    assert folders.tree() == wanted


def test_no_app_starts_while_its_data_is_imported(folders: Folders) -> None:
    """Two at a time would see half of each."""
    top = folders.state / ".flyted-import"
    top.mkdir()
    held = os.open(top, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(Refused, match="its data is being imported"):
        settle(str(folders.state))
    os.close(held)
    settle(str(folders.state))
    assert not top.exists()


def test_folders_that_their_owner_may_not_change_are_replaced_too(folders: Folders) -> None:
    """An app may take its own rights away."""
    closed = folders.state / "work" / "closed" / "inner"
    closed.mkdir(parents=True)
    (closed / "x").touch()
    closed.chmod(0o500)
    closed.parent.chmod(0o500)
    assert "error" not in folders.imported(archive(("work/y", tarfile.REGTYPE, {})))
    assert folders.tree() == {"work": "/", "work/y": ""}
