"""Files and folders among the parameters: fetched once, shown where the file says, and refused in words."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.launch import fetch, parameters
from flyted.launch.refused import Refused
from flyted.launch.words import EX_CONFIG, EX_TEMPFAIL
from tests.s3 import Storage, storage
from tests.values import parameters_of

pytest.importorskip("flyte")
# the SDK warns when it is imported, and its client of storages leaves sockets to the collector
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    with storage() as found:
        for name, value in found.variables().items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An app's folders; it is in the folder where it works."""
    for name in ("cache", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def item(value: object, kind: str = "file", **more: Any) -> dict[str, Any]:
    return {"name": "p", "value": str(value), "type": kind, "download": True, **more}


def got(here: Path, *items: dict[str, Any]) -> dict[str, str]:
    return parameters.decode(parameters_of(*items), {"CACHE_DIRECTORY": str(here / "cache")}).plain


def test_a_file_of_a_storage_is_fetched_once_until_it_changes(
    here: Path, s3: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wake asks whether it is the same, and fetches nothing; what is fetched is in the app's log, with its size."""
    s3.objects["b/models/m.bin"] = b"weights"
    first = got(here, item("s3://b/models/m.bin"))["p"]
    assert (Path(first).read_bytes(), Path(first).name) == (b"weights", "m.bin")
    assert len(s3.fetched()) == 1
    assert got(here, item("s3://b/models/m.bin"))["p"] == first
    assert len(s3.fetched()) == 1
    s3.objects["b/models/m.bin"] = b"better"
    second = got(here, item("s3://b/models/m.bin"))["p"]
    assert Path(second).read_bytes() == b"better"
    assert second != first
    said = "flyted: fetching parameter 'p' ('s3://b/models/m.bin'), 0.0 MiB\n"
    assert capsys.readouterr().err == said * 2


def test_what_no_process_uses_is_deleted(here: Path, s3: Storage) -> None:
    """But not what this start holds a lock on: an app of the old revision may still read it."""
    s3.objects["b/m"] = b"1"
    got(here, item("s3://b/m"))
    left = here / "cache" / fetch.FOLDER / ("0" * 32)
    left.mkdir()
    (left / "old").write_text("x")
    got(here, item("s3://b/m"))
    assert not left.exists()
    assert len([*(here / "cache" / fetch.FOLDER).iterdir()]) == 1


def test_a_folder_of_a_storage_is_shown_with_real_folders(here: Path, s3: Storage) -> None:
    """Programs that walk it find everything, without following links to folders."""
    s3.objects |= {"b/d/one.txt": b"1", "b/d/sub/two.txt": b"2", "b/other": b"-"}
    mount = here / "app" / "data"
    assert got(here, item("s3://b/d/", "directory", dest=str(mount)))["p"] == str(mount)
    found = {os.path.relpath(Path(top, name), mount): Path(top, name).read_text()
             for top, _, names in os.walk(mount) for name in names}  # fmt: skip
    assert found == {"one.txt": "1", "sub/two.txt": "2"}


@pytest.mark.parametrize(
    ("mount", "seen"), [("app/models/", "app/models/m.bin"), ("app/m", "app/m"), ("is", "is/m.bin")]
)
def test_the_mount_of_a_file_is_a_folder_or_the_file_itself(here: Path, mount: str, seen: str) -> None:
    """As in the SDK: with a slash, or where there is a folder, the file gets its own name."""
    (here / "m.bin").write_bytes(b"weights")
    (here / "is").mkdir()
    dest = f"{here}/{mount}"
    decoded = parameters.decode(
        parameters_of(item(here / "m.bin", dest=dest, env_var="MODEL")),
        {"CACHE_DIRECTORY": str(here / "cache")},
        bind=True,
    )
    assert decoded.plain == {"p": f"{here}/{seen}"}
    assert decoded.variables == {"MODEL": f"{here}/{seen}"}
    assert decoded.bound["p"].path == f"{here}/{seen}"
    assert (here / seen).read_bytes() == b"weights"


def test_a_path_of_this_machine_is_used_where_it_is(here: Path) -> None:
    """Nothing is copied, however large it is; a relative path is the app's own file."""
    large = here / "large"
    with large.open("wb") as file:
        file.truncate(5 << 30)
    (here / "work" / "own.csv").write_text("a,b")
    assert got(here, item(f"file://{large}")) == {"p": str(large)}
    assert got(here, item("own.csv")) == {"p": str(here / "work" / "own.csv")}
    assert got(here, item(here, "directory")) == {"p": str(here)}


def test_an_address_stays_one_if_it_is_not_to_be_downloaded(here: Path) -> None:
    """download=False: the app opens it itself."""
    decoded = parameters.decode(
        parameters_of({**item("s3://b/m"), "download": False}), {"CACHE_DIRECTORY": ""}, bind=True
    )
    assert decoded.plain == {"p": "s3://b/m"}
    assert decoded.bound["p"].path == "s3://b/m"


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        ("/nowhere/m.bin", "file", "No such file"),
        ("/dev/zero", "file", "neither a file nor a folder"),
        ("/dev/zero", "directory", "neither a file nor a folder"),
        ("/usr", "file", "it is a folder, and the parameter's type is file"),
        ("/etc/passwd", "directory", "it is a file, and the parameter's type is directory"),
        ("/home/nobody-is-called-so/m.bin", "file", "apps cannot see home folders"),
    ],
)
def test_a_path_that_is_not_what_it_should_be_is_refused(here: Path, value: str, kind: str, said: str) -> None:
    """And nothing is read of it."""
    with pytest.raises(Refused, match=said) as found:
        got(here, item(value, kind))
    assert found.value.status == EX_CONFIG
    assert "parameter 'p'" in str(found.value)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_storage_has_not_is_refused(here: Path, s3: Storage, kind: str) -> None:
    """In words, and the same at each start."""
    with pytest.raises(Refused, match=f"'s3://b/none'.*there is no such {kind}"):
        got(here, item("s3://b/none", kind))


@pytest.mark.parametrize(("value", "said"), [("s3://b/m", "403"), ("floppy://b/m", "Protocol not known: floppy")])
def test_a_storage_that_cannot_be_read_may_be_later(here: Path, s3: Storage, value: str, said: str) -> None:
    """The storage's own words, in one line."""
    s3.objects["b/m"], s3.closed = b"1", True
    with pytest.raises(Refused, match=f"cannot be fetched: .*{said}") as found:
        got(here, item(value))
    assert found.value.status == EX_TEMPFAIL


def test_what_does_not_fit_is_refused_before_it_is_fetched(
    here: Path, s3: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.objects["b/m"] = b"x" * 1000
    monkeypatch.setattr(fetch, "_LEFT_FREE", 1 << 60)
    with pytest.raises(Refused, match=r"has 0\.0 GiB, and .* has room for 0\.0 GiB"):
        got(here, item("s3://b/m"))
    assert s3.fetched() == []
    assert [*(here / "cache" / fetch.FOLDER).iterdir()] == []


def test_a_file_of_the_apps_own_is_never_replaced(here: Path) -> None:
    (here / "m.bin").write_bytes(b"weights")
    (here / "work" / "model.bin").write_text("the app's own")
    with pytest.raises(Refused, match=r"the app has a file of its own there"):
        got(here, item(here / "m.bin", dest="model.bin"))
    assert (here / "work" / "model.bin").read_text() == "the app's own"


def test_a_mount_that_cannot_be_made_is_named(here: Path) -> None:
    (here / "m.bin").write_bytes(b"weights")
    with pytest.raises(Refused, match=r"cannot be shown at mount='/proc/models/'"):
        got(here, item(here / "m.bin", dest="/proc/models/"))


def test_the_parameters_are_published_by_their_paths(here: Path, s3: Storage) -> None:
    """What ``flyte.app.get_parameter`` reads is a path, as on a cluster."""
    s3.objects["b/m"] = b"1"
    environ = {"CACHE_DIRECTORY": str(here / "cache"), "STATE_DIRECTORY": str(here)}
    (here / "cache" / "revision").mkdir()
    parameters.publish(parameters.decode(parameters_of(item("s3://b/m")), environ), environ)
    path = json.loads(Path(environ[parameters.FILE]).read_text())["p"]
    assert Path(path).read_bytes() == b"1"
