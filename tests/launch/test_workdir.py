"""The working folder: nothing that an app wrote is lost by a deploy, and each revision finds its own files."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from flyted.launch import bundle, own_files, workdir
from flyted.launch.words import KEPT
from tests.launch.harness import LAUNCH
from tests.launch.harness import bundle as packed

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def stay_here() -> Iterator[None]:
    """`enter` changes the working folder."""
    before = Path.cwd()
    yield
    os.chdir(before)


class Machine:
    """The folders of one app, and the starts of its revisions. A unit's ``CACHE/revision`` is not shared."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state, self.cache = folder, folder / "state", folder / "cache"
        self.work = self.state / "work"
        self.environ = {"STATE_DIRECTORY": str(self.state), "CACHE_DIRECTORY": str(self.cache)}

    def start(self, files: Mapping[str, str | bytes] | None, *, serves: bool = True) -> workdir.Place:
        """A start, up to the app's code; then, if it ``serves``, what happens when it is ready."""
        place = workdir.enter(str(packed(self.folder, dict(files))) if files is not None else None, self.environ)
        if serves:
            workdir.tidy(self.environ)
        return place

    def seen(self) -> dict[str, str]:
        """What the app finds in its working folder."""
        return {
            str(path.relative_to(self.work)): path.read_text()
            for path in self.work.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One app's folders."""
    return Machine(tmp_path)


def released(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on no code is in use: the revisions of this process have ended."""
    monkeypatch.setattr(bundle, "in_use", lambda _folder: False)


def test_what_the_app_wrote_stays_and_what_the_bundle_brings_is_replaced(machine: Machine) -> None:
    """A database, a file in a folder of the bundle, an own folder: all there after the deploy, beside the new code."""
    machine.start({"app.py": "1", "data/seed.csv": "a", "templates/old.html": "old"})
    (machine.work / "notes.db").write_text("milk")
    (machine.work / "data" / "x.db").write_text("own")
    (machine.work / "uploads").mkdir()
    (machine.work / "uploads" / "cat.png").write_text("cat")
    place = machine.start({"app.py": "2", "data/seed.csv": "b", "templates/new.html": "new"})
    assert Path.cwd() == machine.work
    assert machine.seen() == {
        "app.py": "2", "data/seed.csv": "b", "templates/new.html": "new",
        "notes.db": "milk", "data/x.db": "own", "uploads/cat.png": "cat",
    }  # fmt: skip
    assert not (machine.work / "templates" / "old.html").is_symlink()
    assert place.folders() == [str(machine.work), place.code]


def test_two_revisions_share_the_apps_files_and_not_their_code(machine: Machine) -> None:
    """The links lead through a folder that each unit has for itself (here: we change it, as another mount would)."""
    first = machine.start({"app.py": "1", "page.html": "one", "gone.html": "gone"})
    machine.start({"app.py": "2", "page.html": "two"}, serves=False)
    (machine.work / "notes").write_text("n")
    workdir.link(first.code, workdir.code_link(str(machine.cache)))
    assert machine.seen() == {"app.py": "1", "page.html": "one", "gone.html": "gone", "notes": "n"}


def test_a_deploy_that_fails_takes_nothing_from_the_revision_that_goes_on(machine: Machine) -> None:
    """Links of the old bundle go when the new one serves; the next start of the old one removes what was tried."""
    old: dict[str, str | bytes] = {"app.py": "1", "gone.html": "gone"}
    machine.start(old)
    machine.start({"app.py": "2", "tried/new.html": "new"}, serves=False)
    assert (machine.work / "gone.html").is_symlink()
    machine.start(old)
    assert machine.seen() == {"app.py": "1", "gone.html": "gone"}
    assert sorted(path.name for path in machine.work.iterdir()) == ["__pycache__", "app.py", "gone.html"]


def test_a_file_of_the_apps_own_in_the_way_is_kept_and_told(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file, a folder where a file would be, a file where a folder would be; modules come from the code then."""
    machine.start({"app.py": "1"})
    (machine.work / "data.json").write_text("own")
    (machine.work / "page.html").mkdir()
    (machine.work / "static").write_text("own, too")
    (machine.work / "helper.py").write_text("own")
    files: dict[str, str | bytes] = {
        "app.py": "2",
        "data.json": "b",
        "page.html": "b",
        "static/a.css": "b",
        "helper.py": "b",
    }
    place = machine.start(files)
    assert machine.seen() == {"app.py": "2", "data.json": "own", "static": "own, too", "helper.py": "own"}
    said = capsys.readouterr().err
    assert all(name in said for name in ("data.json", "page.html", "static/a.css", "helper.py")), said
    assert str(machine.work) in said
    assert workdir.kept(machine.environ) == f"{KEPT}data.json, helper.py, page.html, static/a.css"
    assert "app.py" not in said
    assert place.folders() == [place.code, str(machine.work)]
    assert machine.start(files).folders() == place.folders()  # the stamp remembers it
    assert workdir.kept(machine.environ).endswith("static/a.css")  # and so is told at each start
    machine.start({"app.py": "3"})
    assert workdir.kept(machine.environ) == ""


def test_a_folder_that_leads_elsewhere_is_the_apps(machine: Machine, tmp_path: Path) -> None:
    """A link to a folder in the way: nothing is written where it leads."""
    machine.start({"app.py": "1"})
    (tmp_path / "elsewhere").mkdir()
    (machine.work / "static").symlink_to(tmp_path / "elsewhere")
    machine.start({"app.py": "2", "static/a.css": "b", "static/deep/b.css": "b"})
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_same_bundle_again_costs_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wake finds the stamp. A working folder that was removed, or restored from a backup, is made anew."""
    files: dict[str, str | bytes] = {"app.py": "1"}
    machine.start(files)
    from flyted.launch import arrange

    arranged: list[str] = []
    real = arrange.Arrangement.arrange

    def counted(self: arrange.Arrangement, code: str) -> bool:
        arranged.append(code)
        return real(self, code)

    monkeypatch.setattr(arrange.Arrangement, "arrange", counted)
    machine.start(files)
    assert arranged == []
    shutil.rmtree(machine.work)
    machine.start(files)
    assert machine.seen() == {"app.py": "1"}
    assert len(arranged) == 1


def test_what_was_written_beside_the_code_comes_along(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that resolves links writes into the code's folder, where old code is deleted."""
    first = Path(machine.start({"app.py": "1", "data/seed.json": "seed"}).code)
    (first / "db.sqlite3").write_text("rows")
    (first / "uploads").mkdir()
    (first / "uploads" / "a").write_text("A")
    (machine.work / "data" / "seed.json").write_text("changed in place")
    second = Path(machine.start({"app.py": "2", "data/seed.json": "seed"}).code)
    assert machine.seen() == {
        "app.py": "2", "db.sqlite3": "rows", "uploads/a": "A", "data/seed.json": "changed in place",
    }  # fmt: skip
    for folder in (first, second):  # the first still runs: it goes on with the same files
        (folder / "db.sqlite3").write_text(f"of {folder.name}")
        assert (machine.work / "db.sqlite3").read_text() == f"of {folder.name}"
    released(monkeypatch)
    (second / "later").write_text("later")
    for number in range(3, 7):
        machine.start({"app.py": f"{number}"})
    assert (machine.work / "later").read_text() == "later"
    assert (machine.work / "db.sqlite3").read_text() == f"of {second.name}"


def test_a_file_of_the_bundle_that_the_app_changed_is_found_beside_the_code(machine: Machine) -> None:
    """A program that resolves links looks there; the bundle's comes back when the app's own is moved away."""
    bundled: dict[str, str | bytes] = {"app.py": "1", "data/db.sqlite3": "seed", "helper.py": "1"}
    first = Path(machine.start(bundled).code)
    (first / "data/db.sqlite3").write_text("rows")
    (first / "helper.py").write_text("changed")
    bundled |= {"app.py": "2", "helper.py": "2"}
    second = Path(machine.start(bundled).code)
    assert (second / "data/db.sqlite3").read_text() == "rows"
    assert (second / "helper.py").read_text() == "2"  # modules are the bundle's
    (second / "data/db.sqlite3").write_text("more rows")
    third = Path(machine.start(bundled | {"app.py": "3"}).code)
    for folder in (first, second, third, machine.work):
        assert (folder / "data/db.sqlite3").read_text() == "more rows"
    (machine.work / "data/db.sqlite3").unlink()
    for files in (bundled | {"app.py": "4"}, bundled, bundled | {"app.py": "3"}):
        code = Path(machine.start(files).code)
        assert (code / "data/db.sqlite3").read_text() == (machine.work / "data/db.sqlite3").read_text() == "seed"


def test_a_file_that_the_app_changed_outlives_a_deploy_that_fails(machine: Machine) -> None:
    """The revision that goes on finds its own file by a link then, and takes that for no file of the bundle."""
    old: dict[str, str | bytes] = {"app.py": "1", "data/seed.json": "seed"}
    first = Path(machine.start(old).code)
    (machine.work / "data/seed.json").write_text("changed in place")
    machine.start({"app.py": "2", "data/seed.json": "seed"}, serves=False)
    for _ in range(2):
        machine.start(old)
        assert (machine.work / "data/seed.json").read_text() == "changed in place"
        assert (first / "data/seed.json").read_text() == "changed in place"
        machine.start({"app.py": "3", "data/seed.json": "another"}, serves=False)
    (machine.work / "data/seed.json").unlink()
    machine.start(old)
    assert not (machine.work / "data/seed.json").is_symlink()  # it would lead to itself


def test_a_file_of_the_bundle_that_the_app_renamed_is_the_apps(machine: Machine) -> None:
    """What it was when it was renamed, whatever comes; and the bundle's has its name again."""
    machine.start({"app.py": "1", "config.json": "shipped", "in/a.csv": "a", "in/gone.csv": "g"})
    Path("config.json").rename("config.json.bak")
    Path("config.json").write_text("set by the app")
    Path("done").mkdir()
    Path("in/a.csv").rename("done/a.csv")
    Path("in/gone.csv").unlink()
    Path("alias").symlink_to("done/a.csv")
    for number in range(2, 6):
        machine.start({"app.py": f"{number}", "config.json": "shipped later", "in/a.csv": f"a{number}"})
        assert machine.seen() == {
            "app.py": f"{number}", "config.json": "set by the app", "config.json.bak": "shipped",
            "in/a.csv": f"a{number}", "done/a.csv": "a", "alias": "a",
        }  # fmt: skip
        assert Path("alias").is_symlink()


def test_a_start_that_is_killed_meanwhile_loses_sight_of_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has moved already is shown beside the code by the next one."""
    first = Path(machine.start({"app.py": "1", "seed.db": "seed"}).code)
    (first / "db.sqlite3").write_text("rows")
    (first / "seed.db").write_text("changed")
    from flyted.launch import arrange

    with monkeypatch.context() as killed:
        killed.setattr(arrange.Arrangement, "_link_all", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            machine.start({"app.py": "2", "seed.db": "seed"})
    second = Path(machine.start({"app.py": "2", "seed.db": "seed"}).code)
    assert [(second / name).read_text() for name in ("db.sqlite3", "seed.db")] == ["rows", "changed"]


@pytest.mark.parametrize("brought", [0, 1])
def test_a_database_of_the_bundle_comes_along_with_its_log(machine: Machine, brought: int) -> None:
    """Until SQLite writes the log back the database is as it was unpacked, and one is nothing without the other."""

    def count(database: sqlite3.Connection) -> int:
        return int(database.execute("SELECT count(*) FROM note").fetchone()[0])

    seeds: list[bytes] = []
    for name in ("a", "b"):
        path = machine.folder / f"{name}.db"
        with closing(sqlite3.connect(path)) as made:
            made.execute("PRAGMA journal_mode=wal")
            made.executescript("CREATE TABLE note (t TEXT);" + f"INSERT INTO note VALUES ('{name}');" * len(seeds))
        seeds.append(path.read_bytes())
    first = machine.start({"app.py": "1", "data/seed.db": seeds[0]}).code
    with closing(sqlite3.connect("data/seed.db", isolation_level=None)) as old:
        old.execute("INSERT INTO note VALUES ('milk')")
        assert Path(first, "data/seed.db-wal").exists()
        second = machine.start({"app.py": "2", "data/seed.db": seeds[brought]}).code
        for there in ("data/seed.db", f"{second}/data/seed.db"):
            with closing(sqlite3.connect(there, isolation_level=None)) as new:
                before = count(old)
                new.execute("INSERT INTO note VALUES ('eggs')")
                assert count(new) == count(old) == before + 1
                old.execute("INSERT INTO note VALUES ('bread')")
                assert count(new) == before + 2
                assert new.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    machine.start({"app.py": "3"})
    with closing(sqlite3.connect("data/seed.db")) as last:
        assert count(last) == 5


def test_the_log_of_a_database_is_moved_before_it(machine: Machine) -> None:
    """Who opens the database between the two finds its log by the old name and by the new one."""
    first = Path(machine.start({"app.py": "1"}).code)
    names = ("a.db", "a.db-shm", "a.db-wal", "b.db", "b.db-journal")
    for name in names:
        (first / name).write_text(name)
    mover = own_files.Mover(str(machine.state), str(machine.work), lambda _path, _name: False)
    mover.empty(str(first), bundle.record_of(str(first)), running=True)
    assert sorted(mover.moved) == sorted(names)
    for name in ("a.db", "b.db"):
        assert all(mover.moved.index(each) <= mover.moved.index(name) for each in names if each.startswith(name))


def test_the_newer_file_has_the_name_and_the_other_is_kept(machine: Machine) -> None:
    """Written beside the code and in the working folder."""
    first = Path(machine.start({"app.py": "1"}).code)
    second = Path(machine.start({"app.py": "2"}).code)
    (machine.work / "a").write_text("older")
    os.utime(machine.work / "a", (time.time() - 60,) * 2)
    (first / "a").write_text("newer")
    (machine.work / "b").write_text("newer")
    (second / "b").write_text("older")
    os.utime(second / "b", (time.time() - 60,) * 2)
    machine.start({"app.py": "3"})
    assert machine.seen() == {"app.py": "3", "a": "newer", "b": "newer"}
    kept = machine.state / own_files.KEPT
    assert (kept / "work" / "a").read_text() == "older"
    assert (kept / second.name[:12] / "b").read_text() == "older"


def test_what_an_app_wrote_under_the_first_version_is_moved(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.1.0 worked in CACHE/code/SHA256, and CACHE/work without a bundle: nothing of it is lost at the upgrade."""
    now: dict[str, str | bytes] = {"app.py": "2", "data.json": "seed"}
    current = machine.cache / "code" / bundle.stem(str(packed(machine.folder, now)))
    older = machine.cache / "code" / ("0" * 64)
    for folder, files in (
        (current, {"app.py": "2", "data.json": "changed", "flyte-parameters.json": "{}"}),
        (older, {"app.py": "1", "data.json": "of old", "notes.db": "milk", "helper.py": "old code"}),
        (machine.cache / "work", {"plain": "p"}),
    ):
        (folder / "__pycache__").mkdir(parents=True)
        (folder / "__pycache__" / "app.pyc").write_text("byte code")
        for name, text in files.items():
            (folder / name).write_text(text)
    released(monkeypatch)
    machine.start(now)
    assert machine.seen() == {"app.py": "2", "data.json": "changed", "notes.db": "milk", "plain": "p"}
    kept = machine.state / own_files.KEPT / ("0" * 12)
    assert {path.name: path.read_text() for path in kept.iterdir()} == {
        "app.py": "1", "data.json": "of old", "helper.py": "old code",
    }  # fmt: skip
    assert not (machine.cache / "code").exists()
    assert not (machine.cache / "work").exists()


def test_a_process_of_the_first_version_keeps_its_files_until_it_ends(machine: Machine) -> None:
    """It drains beside the first start of the new version, in the folder that is emptied."""
    old = machine.cache / "code" / ("0" * 64)
    old.mkdir(parents=True)
    (old / "notes.db").write_text("milk")
    held = bundle.hold(str(old))
    machine.start({"app.py": "1"})
    with (old / "notes.db").open("a") as file:
        file.write(" and bread")
    assert (machine.work / "notes.db").read_text() == "milk and bread"
    assert held is not None
    os.close(held)
    machine.start({"app.py": "1"})
    assert not old.exists()
    assert (machine.work / "notes.db").read_text() == "milk and bread"


def test_many_files_are_linked_in_a_moment(machine: Machine) -> None:
    """A large bundle, and then a smaller one."""
    machine.start({**{f"d{n % 100}/f{n}": "x" for n in range(2000)}, "one.py": "1"})
    assert len(machine.seen()) == 2001
    machine.start({f"d{n % 100}/f{n}": "y" for n in range(1000)})
    assert machine.seen() == {f"d{n % 100}/f{n}": "y" for n in range(1000)}


def test_what_an_app_keeps_is_counted(machine: Machine) -> None:
    """Its own files, in the working folder, at home and beside the code; not the bundle's, and no link."""
    code = Path(machine.start({"app.py": "x" * 1000, "data/a": "y"}).code)
    (machine.work / "data" / "b").write_text("12345")
    (machine.state / "home").write_text("123")
    (code / "beside").write_text("12")
    (machine.cache / "model").write_text("1234567")
    (machine.work / "far").symlink_to("/usr")
    done = subprocess.run(
        [sys.executable, "-I", str(LAUNCH), "--measure"], env=machine.environ, check=True, capture_output=True
    )
    assert json.loads(done.stdout) == {"bytes": 10, "files": 3, "cache_bytes": 7, "complete": True}
