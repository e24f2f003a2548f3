"""The working folder: what an app wrote beside its code is brought there by the next bundle's first start."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from flyted.launch import bundle, own_files
from tests.launch.workdirs import Machine, released

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("stay_here")]


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
