"""The working folder: nothing that an app wrote is lost by a deploy, and each revision finds its own files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flyted.launch import bundle, links, own_files, workdir
from flyted.launch.words import KEPT
from tests.launch.harness import LAUNCH
from tests.launch.harness import bundle as packed
from tests.launch.workdirs import Machine, released

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("stay_here")]


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
    links.link(first.code, links.code_link(str(machine.cache)))
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
