"""Code bundles: unpacked once, whole or not at all, and nothing outside of their folder."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from flyted.launch import bundle, unpack, workdir
from flyted.launch.own_files import Mover
from flyted.launch.refused import Refused
from flyted.launch.words import EX_CONFIG
from tests.launch.harness import ROOT
from tests.launch.harness import bundle as packed

pytestmark = pytest.mark.slow

Entry = tuple[tarfile.TarInfo, bytes]


def unpacked(source: object, code: Path) -> Path:
    """Unpacks below a folder that need not be there yet."""
    code.mkdir(parents=True, exist_ok=True)
    return Path(bundle.unpacked(str(source), str(code)))


def entry(name: str, content: bytes = b"", **fields: object) -> Entry:
    """One member of an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def archive(path: Path, *entries: Entry) -> str:
    """An archive with exactly these members."""
    with tarfile.open(path, "w:gz") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_and_folders_arrive(tmp_path: Path) -> None:
    """Contents and the owner's execute bit are kept; nobody else may read; ./ and repeated folders do no harm."""
    source = archive(
        tmp_path / "b.tar.gz",
        entry("./", type=tarfile.DIRTYPE),
        entry("./a.py", b"1"),
        entry("pkg", type=tarfile.DIRTYPE, mode=0o777),
        entry("pkg/deep/x.sh", b"2", mode=0o6777),
        entry("pkg", type=tarfile.DIRTYPE),
        entry("pkg//deep/./y", b"3"),
    )
    (tmp_path / "out").mkdir()
    unpack.unpack(source, str(tmp_path / "out"))
    assert tree(tmp_path / "out") == {"a.py": b"1", "pkg/deep/x.sh": b"2", "pkg/deep/y": b"3"}
    modes = {p.name: p.stat().st_mode & 0o7777 for p in (tmp_path / "out").rglob("*")}
    assert modes == {"a.py": 0o600, "pkg": 0o700, "deep": 0o700, "x.sh": 0o700, "y": 0o600}


ATTACKS = {
    "parent": [entry("../evil", b"x")],
    "parent inside": [entry("a/../../evil", b"x")],
    "parent of nothing": [entry("a/..", type=tarfile.DIRTYPE)],
    "absolute": [entry("/tmp/evil", b"x")],
    "symlink": [entry("a", type=tarfile.SYMTYPE, linkname="/etc")],
    "symlink, then below it": [entry("a", type=tarfile.SYMTYPE, linkname=".."), entry("a/evil", b"x")],
    "hard link": [entry("a", b"x"), entry("b", type=tarfile.LNKTYPE, linkname="a")],
    "hard link out": [entry("b", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
    "device": [entry("a", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "pipe": [entry("a", type=tarfile.FIFOTYPE)],
    "twice": [entry("a", b"x"), entry("a", b"y")],
    "twice, spelt differently": [entry("d/a", b"x"), entry("d/./a", b"y")],
    "file, then folder": [entry("a", b"x"), entry("a/b", b"y")],
    "folder, then file": [entry("a/b", b"x"), entry("a", b"y")],
    "the folder itself as a file": [entry(".", b"x")],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_unsafe_member_spoils_the_whole_bundle(tmp_path: Path, name: str) -> None:
    """Nothing is written outside, nothing appears under the bundle's name, and no leftover stays."""
    outside = set(tmp_path.parent.iterdir())
    source = archive(tmp_path / "b.tar.gz", entry("good.py", b"1"), *ATTACKS[name])
    with pytest.raises(Refused) as refused:
        unpacked(source, tmp_path / "cache" / "code")
    assert refused.value.status == EX_CONFIG
    assert list((tmp_path / "cache" / "code").iterdir()) == []
    assert set(tmp_path.parent.iterdir()) == outside
    assert not Path("/tmp/evil").exists()


def test_too_much_is_refused_before_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that claims more than is allowed ends it, whatever the file holds; so does one entry too many."""
    (tmp_path / "out").mkdir()
    header = tarfile.TarInfo("big")
    header.size = unpack.MOST_BYTES + 1
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(header.tobuf()))
    with pytest.raises(Refused, match="1024 MiB"):
        unpack.unpack(str(tmp_path / "b.tar.gz"), str(tmp_path / "out"))
    assert tree(tmp_path / "out") == {}
    monkeypatch.setattr(unpack, "MOST_ENTRIES", 3)
    source = archive(tmp_path / "c.tar.gz", *(entry(f"f{n}") for n in range(4)))
    with pytest.raises(Refused, match="more than 3 entries"):
        unpack.unpack(source, str(tmp_path / "out"))


def test_folders_that_are_too_deep_are_refused(tmp_path: Path) -> None:
    """In one sentence; no program's code is 1500 folders deep."""
    (tmp_path / "out").mkdir()
    source = archive(tmp_path / "b.tar.gz", entry("/".join(["d"] * 1500), b"1"))
    with pytest.raises(Refused, match="folders are more than 200 deep"):
        unpack.unpack(source, str(tmp_path / "out"))
    assert tree(tmp_path / "out") == {}


def test_a_damaged_archive_is_said_to_be_damaged(tmp_path: Path) -> None:
    """Cut at any place: refused, never half an app."""
    whole = Path(
        archive(tmp_path / "b.tar.gz", entry("a.py", os.urandom(5000)), entry("b.py", b"x" * 2000))
    ).read_bytes()
    for number, length in enumerate(range(0, len(whole), 97)):
        folder = tmp_path / f"cut{number}"
        folder.mkdir()
        (folder / "b.tar.gz").write_bytes(whole[:length])
        with pytest.raises(Refused, match="damaged"):
            unpacked(folder / "b.tar.gz", folder / "code")
        assert list((folder / "code").iterdir()) == []


def test_it_is_unpacked_once(tmp_path: Path) -> None:
    """Byte code lies beside the code; a second start finds both, even when the bundle is gone."""
    source = packed(tmp_path, {"a.py": "x = 1"})
    folder = unpacked(source, tmp_path / "code")
    assert folder.name == source.name.removesuffix(".tar.gz")
    (folder / "__pycache__" / "a.pyc").write_text("byte code")
    source.unlink()
    assert unpacked(source, tmp_path / "code") == folder
    assert tree(folder) == {"a.py": b"x = 1", "__pycache__/a.pyc": b"byte code"}


ENTER = (
    "import sys; from flyted.launch import bundle, workdir; "
    "workdir.enter(sys.argv[1], {'STATE_DIRECTORY': sys.argv[2], 'CACHE_DIRECTORY': sys.argv[2] + '/cache'}); "
    "print(sys.argv[2] + '/code/' + bundle.stem(sys.argv[1]), flush=True); sys.stdin.read()"
)


def starter(source: Path, cache: Path) -> subprocess.Popen[str]:
    """Another process that unpacks, and runs until its stdin closes."""
    command = [sys.executable, "-c", ENTER, str(source), str(cache)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    """Ends a starter."""
    process.communicate()
    assert process.returncode == 0


def test_concurrent_starters_share_one_complete_folder(tmp_path: Path) -> None:
    """Whoever loses the race uses the winner's folder and leaves nothing behind."""
    source = packed(tmp_path, {f"m{n}.py": f"x = {n}" for n in range(60)})
    processes = [starter(source, tmp_path / "state") for _ in range(6)]
    seen = {process.stdout.readline().strip() for process in processes if process.stdout}
    for process in processes:
        finish(process)
    assert len(seen) == 1
    assert len(tree(Path(seen.pop()))) == 60
    assert len([path for path in (tmp_path / "state" / "code").iterdir() if path.is_dir()]) == 1


def test_the_record_is_of_the_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loses the race leaves the winner's record; with its own, each file would count as written by the app."""
    source, real = packed(tmp_path, {"a.py": "x = 1", "data/b.txt": "y"}), unpack.unpack

    def overtaken(bundle_: str, folder: str) -> object:
        found = real(bundle_, folder)
        monkeypatch.setattr(unpack, "unpack", real)
        unpacked(source, tmp_path / "code")
        return found

    monkeypatch.setattr(unpack, "unpack", overtaken)
    folder = unpacked(source, tmp_path / "code")
    record = bundle.record_of(str(folder))
    assert record is not None
    assert sorted(record.files) == ["a.py", "data/b.txt"]
    assert Mover(str(tmp_path), str(tmp_path / "work"), lambda _path, _name: False).own(str(folder), record) == []
    assert {path.name for path in (tmp_path / "code").iterdir()} == {folder.name, f"{folder.name}.json"}


def test_old_bundles_go_but_for_the_newest_and_those_in_use(tmp_path: Path) -> None:
    """A deploy that fails goes back to the previous code; another replica may still run an older one."""
    state = tmp_path / "state"
    sources = [packed(tmp_path, {"a.py": f"x = {n}"}) for n in range(5)]
    user = starter(sources[0], state)
    assert user.stdout is not None
    user.stdout.readline()
    for source in sources[1:]:
        finish(starter(source, state))
    kept = {path.name for path in (state / "code").iterdir() if path.is_dir()}
    assert kept == {bundle.stem(str(sources[n])) for n in (0, 3, 4)}
    finish(user)
    finish(starter(sources[3], state))
    left = {path.name.removesuffix(".json") for path in (state / "code").iterdir() if not path.name.startswith(".")}
    assert left == {bundle.stem(str(sources[n])) for n in (3, 4)}


def test_leftovers_of_a_crash_go_when_they_are_old(tmp_path: Path) -> None:
    """A starter killed while it unpacked leaves a folder; a young one may be somebody's work."""
    state = tmp_path / "state"
    for name, age in ((".new-old", 3600), (".old-old", 3600), (".new-young", 0)):
        (state / "code" / name).mkdir(parents=True)
        (state / "code" / name / "half").write_text("x")
        os.utime(state / "code" / name, (time.time() - age,) * 2)
    finish(starter(packed(tmp_path, {"a.py": ""}), state))
    assert {p.name for p in (state / "code").iterdir() if p.name.startswith((".new", ".old"))} == {".new-young"}


def test_records_without_their_folder_go(tmp_path: Path) -> None:
    """A crash came between a folder and its record, or before the record was complete. Other files stay."""
    code = tmp_path / "state" / "code"
    code.mkdir(parents=True)
    left = {f"{'a' * 64}.json", f"{'b' * 64}.json.123"}
    others = {"notes.json", ".links.json", f"{'c' * 64}.json.txt"}
    for name in left | others:
        (code / name).write_text("[]")
    source = packed(tmp_path, {"a.py": ""})
    finish(starter(source, tmp_path / "state"))
    there = {path.name for path in code.iterdir()}
    assert not there & left
    assert others | {bundle.stem(str(source)), f"{bundle.stem(str(source))}.json"} <= there


def test_killed_at_any_point_a_start_leaves_no_half_bundle(tmp_path: Path) -> None:
    """A folder under the bundle's name is complete, whenever the starter was killed."""
    source = packed(tmp_path, {f"m{n}.py": "x" * 1000 for n in range(200)})
    for number in range(12):
        state = tmp_path / f"state{number}"
        process = starter(source, state)
        final = state / "code" / bundle.stem(str(source))
        wanted = number * 15
        while process.poll() is None and not final.exists():
            new = next(iter((state / "code").glob(".new-*")), None) if (state / "code").exists() else None
            if new is not None and len(list(new.iterdir())) >= wanted:
                break
        process.kill()
        process.communicate()
        assert not final.exists() or len(tree(final)) == 200


@pytest.mark.parametrize("name", ["", ".hidden.tar.gz", "/x/.tar.gz"])
def test_a_bundle_without_a_name_is_refused(tmp_path: Path, name: str) -> None:
    """The name becomes a folder's."""
    with pytest.raises(Refused):
        unpacked(name, tmp_path)


@pytest.mark.parametrize("number", [1, 100])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Not a fault of the configuration: another status, so that a later start tries again."""
    source = packed(tmp_path, {f"{n}.py": "x" for n in range(number)})

    def full(_folder: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if number == 1 else (unpack, "_sync")), full)
    environ = {"STATE_DIRECTORY": str(tmp_path / "state"), "CACHE_DIRECTORY": str(tmp_path / "cache")}
    with pytest.raises(Refused, match="No space left") as refused:
        workdir.enter(str(source), environ)
    assert refused.value.status == 73
    assert list((tmp_path / "state" / "code").iterdir()) == []
