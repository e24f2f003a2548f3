"""`flytectl data` and `flytectl volume`: what they ask of the daemon, and what becomes of the user's files."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from flytectl import cli
from flyted.contract.answers.data import DataFolder
from flyted.contract.answers.volumes import VolumeStatus
from tests.answers import whole
from tests.flytectl.stub_daemon import error, result

pytestmark = pytest.mark.slow

SAID = {"files": 2, "bytes": 2048, "left_out": 1, "changed": True}


def test_an_export_is_there_when_it_is_complete(stub_daemon, capsys, tmp_path: Path) -> None:
    """A new file, for its owner alone; and what is to be known of it."""
    asked = stub_daemon(result(**SAID))
    path = tmp_path / "out.tar"
    assert cli.main(["data", "export", "notes", str(path)]) == 0
    assert asked.requests[0]["args"] == {"project": "default", "domain": "development", "name": "notes", "files": 1}
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[0] == "notes: 2 files, 2.0 KiB, exported"
    assert "files changed meanwhile" in said.err
    assert "left out: 1 socket, pipe or device file" in said.err
    assert (path.stat().st_mode & 0o777, sorted(tmp_path.glob("out*"))) == (0o600, [path])


def test_a_failed_export_leaves_nothing_and_none_replaces_a_file(stub_daemon, capsys, tmp_path: Path) -> None:
    """Also not through a link, which is a name that is taken."""
    stub_daemon(error("permission", "it is not yours"))
    assert cli.main(["data", "export", "notes", str(tmp_path / "out.tar")]) == 6
    assert list(tmp_path.glob("out*")) == []
    (tmp_path / "link").symlink_to("nowhere")
    assert cli.main(["data", "export", "notes", str(tmp_path / "link")]) == 5
    assert cli.main(["data", "export", "notes", str(tmp_path / "no" / "out.tar")]) == 2
    said = capsys.readouterr().err
    assert "link exists already" in said
    assert "out.tar cannot be written: No such file" in said


def test_a_terminal_gets_no_archive(stub_daemon, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe does."""
    asked = stub_daemon(result(**SAID))
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert cli.main(["data", "export", "notes", "-"]) == 2
    os.close(ours)
    assert "an archive is not for a terminal" in capsys.readouterr().err
    assert asked.requests == []


def test_an_import_asks_before_it_replaces(stub_daemon, capsys, tmp_path: Path) -> None:
    """Without a terminal ``--yes`` is needed; for an app without files nobody is asked."""
    path = tmp_path / "in.tar"
    path.write_bytes(b"x")
    folder = {"folder": "/x", "bytes": 5, "files": 1, "cache_bytes": 0, "complete": True}
    asked = stub_daemon(result(data=folder, known=True, revisions=1, tokens=0))
    assert cli.main(["data", "import", "notes", str(path)]) == 2
    assert [each["verb"] for each in asked.requests] == ["app.data"]
    said = capsys.readouterr().err
    assert "standard input is not a terminal: nothing was imported" in said
    assert f"flytectl data import --yes notes {path}" in said
    assert cli.main(["data", "import", "notes", str(tmp_path / "missing")]) == 2
    assert "missing cannot be read: No such file" in capsys.readouterr().err
    assert cli.main(["data", "import", "notes", str(tmp_path)]) == 2
    assert "cannot be read: Is a directory" in capsys.readouterr().err


def test_what_an_import_asks_for(stub_daemon, capsys, tmp_path: Path) -> None:
    """The answer counts what was left out."""
    path = tmp_path / "in.tar"
    path.write_bytes(b"x")
    asked = stub_daemon(result(files=1, bytes=5, left_out=2))
    assert cli.main(["data", "import", "-p", "team", "notes", str(path), "--yes", "--skip-links"]) == 0
    assert asked.requests[0]["args"] == {
        "project": "team", "domain": "development", "name": "notes", "replace": True, "skip_links": True, "files": 1,
    }  # fmt: skip
    said = capsys.readouterr().err
    assert "notes: 1 file, 5 B, imported" in said
    assert "left out: 2 links that lead out of the data" in said


def test_data_is_listed_with_what_is_asked_for(stub_daemon, capsys) -> None:
    """Deleted apps are marked, and other scopes."""
    one = whole(
        DataFolder, name="a", project="default", domain="development", known=True, owner="bob", bytes=2 << 20,
        disk_bytes=1 << 20, complete=True, folder="/x/a",
    )  # fmt: skip
    two = whole(DataFolder, name="b", project="team", domain="staging", folder="/x/b")
    stub_daemon(result(folders=[one, two]))
    assert cli.main(["data", "ls"]) == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert shown == [
        "APP SIZE OWNER FOLDER", "a 2.0 MiB of 1.0 MiB bob /x/a", "team/staging/b (deleted) at least 0 B - /x/b",
    ]  # fmt: skip


def test_volumes_are_listed_with_their_apps(stub_daemon, capsys) -> None:
    """And with what is wrong."""
    good = whole(VolumeStatus, name="a", folder="/srv/a", read_only=True, apps=("x", "y"))
    bad = whole(VolumeStatus, name="b", folder="/srv/b", problem="it is gone")
    stub_daemon(result(volumes=[good, bad]))
    assert cli.main(["volume", "ls"]) == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert shown == ["NAME MODE APPS FOLDER", "a ro x, y /srv/a", "b it is gone - /srv/b"]


def test_a_volume_is_added_by_its_whole_path(stub_daemon, capsys, monkeypatch, tmp_path: Path) -> None:
    """And it is said how it is used."""
    monkeypatch.chdir(tmp_path)
    asked = stub_daemon(result(**_fields(name="a", folder="/srv/a", read_only=True)))
    assert cli.main(["volume", "add", "a", "photos", "--ro"]) == 0
    assert asked.requests[0]["args"] == {"name": "a", "folder": str(tmp_path / "photos"), "read_only": True}
    assert "flytectl serve --volume a:/mnt/a:ro FILE" in capsys.readouterr().err


def _fields(**given: object) -> dict[str, object]:
    made = whole(VolumeStatus, **given)
    return {name: getattr(made, name) for name in made.__dataclass_fields__}


@pytest.mark.parametrize("flag", ["x", "x:y", "X:/mnt", "x:/mnt:rx"])
def test_a_bad_volume_is_refused_before_the_file_is_imported(capsys, tmp_path: Path, flag: str) -> None:
    """It is a matter of the command line."""
    (tmp_path / "app.py").write_text("raise RuntimeError")
    assert cli.main(["serve", "--volume", flag, str(tmp_path / "app.py")]) == 2
    assert "volume" in capsys.readouterr().err
