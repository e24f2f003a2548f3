"""Which folders may be models, and what is remembered of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.contract.errors import InvalidInput, NotFound
from flyted.host import models
from flyted.host.models import Model, Models, checked
from flyted.host.store import Store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model where apps see it: pytest's own folders lie below /tmp, which is private to each app."""
    monkeypatch.setattr(models, "_UNSEEN", ("/home", f"{tmp_path}/unseen"))
    real = models._check_passable
    below = os.path.realpath(tmp_path)  # pytest makes the folders above 0700, which is not what is tested
    monkeypatch.setattr(models, "_check_passable", lambda at: real(at) if at.startswith(below) else None)
    tmp_path.chmod(0o755)
    made = tmp_path / "models" / "tiny"
    made.mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "sub").mkdir()
    (made / "sub/weights.safetensors").write_bytes(b"x" * 98)
    return made


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Models]:
    """The table in a store of its own."""
    store = Store(tmp_path / "db")
    yield Models(store.database)
    store.close()


def test_a_folder_that_everybody_can_read_is_a_model(folder: Path) -> None:
    """Its real path, and what its files take."""
    assert checked(str(folder)) == (str(folder), 100)
    link = folder.parent / "latest"
    link.symlink_to(folder)
    assert checked(f"{link}/") == (str(folder), 100)


def test_a_hubs_cache_is_one(folder: Path) -> None:
    """A snapshot there is made of links to blobs beside it."""
    blob = folder.parent / "blobs" / "abc"
    blob.parent.mkdir()
    blob.write_bytes(b"y" * 7)
    (folder / "model.bin").symlink_to("../blobs/abc")
    assert checked(str(folder)) == (str(folder), 107)
    blob.chmod(0o600)
    with pytest.raises(InvalidInput, match=r"apps may not read '.*model\.bin'"):
        checked(str(folder))
    blob.unlink()
    with pytest.raises(InvalidInput, match="No such file"):
        checked(str(folder))


@pytest.mark.parametrize("name", [".", "sub", "config.json", "sub/weights.safetensors"])
def test_what_apps_may_not_read_is_named_with_the_cure(folder: Path, name: str) -> None:
    """Before the app is started, not in the middle of its log."""
    (folder / name).chmod(0o700 if (folder / name).is_dir() else 0o640)
    with pytest.raises(InvalidInput, match="apps may not read") as caught:
        checked(str(folder))
    assert caught.value.hint == f"sudo chmod -R o+rX {folder}"


def test_what_lies_above_counts(folder: Path) -> None:
    """A name must give nobody what the file system does not."""
    folder.parent.chmod(0o750)
    with pytest.raises(InvalidInput, match="not every user may enter") as caught:
        checked(str(folder))
    assert caught.value.hint == f"sudo chmod o+x {folder.parent}"


def test_nobody_is_told_to_open_a_folder_that_apps_do_not_see(folder: Path, tmp_path: Path) -> None:
    """A link may lead to root's home: that is not to be made passable for everybody."""
    unseen = tmp_path / "unseen"
    unseen.mkdir(mode=0o700)
    (folder / "more.bin").symlink_to(unseen / "more.bin")
    with pytest.raises(InvalidInput, match="apps cannot see") as caught:
        checked(str(folder))
    assert "chmod" not in caught.value.hint


def test_nobody_learns_what_lies_in_folders_that_are_not_theirs(folder: Path) -> None:
    """The daemon is root: it sees what is there and what is not, and says the same of both."""
    private = folder.parent / "private"
    private.mkdir()
    (private / "model").mkdir()
    (private / "link").symlink_to(folder)
    private.chmod(0o700)
    said = set()
    for name in ("model", "link", "missing", "model/deeper", "missing/deeper"):
        with pytest.raises(InvalidInput) as caught:
            checked(str(private / name))
        said.add(caught.value.message)
    assert said == {f"not every user may enter {private}"}


@pytest.mark.parametrize("place", ["link in the model", "link on the way", "link to the model"])
def test_a_link_tells_nobody_what_is_in_a_folder_that_is_not_theirs(folder: Path, place: str) -> None:
    """Whether there is a file, a folder or a link: root sees it, and says the same of all."""
    private = folder.parent / "private"
    private.mkdir()
    (private / "there").mkdir()
    (private / "there/file").write_text("x")
    (private / "away").symlink_to(folder)
    private.chmod(0o700)
    said = set()
    for name in ("there", "there/file", "away", "missing", "missing/deeper"):
        link = (folder if place == "link in the model" else folder.parent) / "probe"
        link.symlink_to(private / name)
        asked = {"link in the model": folder, "link on the way": link / "sub", "link to the model": link}[place]
        with pytest.raises(InvalidInput) as caught:
            checked(str(asked))
        said.add(caught.value.message)
        link.unlink()
    assert said == {f"not every user may enter {private}"}


def test_links_that_go_round_end(folder: Path) -> None:
    """As path_resolution(7) ends them."""
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    with pytest.raises(InvalidInput, match="Too many levels of symbolic links"):
        checked(str(folder))


def test_a_path_is_followed_from_the_root() -> None:
    """The real check, without the fixture's end; links, dots and all."""
    for path in ("/usr/bin", "/", "/usr/../usr/./bin/", "/bin"):
        assert models._resolved(path) == os.path.realpath(path)


@pytest.mark.parametrize("path", ["/", "/home/bob/model", "/root/m", "/tmp/m", "/run/m", "/proc/self", "/dev/shm/m"])
def test_places_that_apps_do_not_see_are_refused(path: str) -> None:
    """Their homes are empty, their /tmp is their own."""
    with pytest.raises(InvalidInput, match="apps cannot see"):
        checked(path)


def test_no_link_leads_out_of_sight(folder: Path) -> None:
    """Neither the folder itself nor a file in it."""
    unseen = folder.parent.parent / "unseen"
    unseen.mkdir()
    (unseen / "w").write_bytes(b"z")
    (folder / "w").symlink_to(unseen / "w")
    with pytest.raises(InvalidInput, match="apps cannot see"):
        checked(str(folder))
    link = folder.parent / "link"
    link.symlink_to(unseen)
    with pytest.raises(InvalidInput, match="apps cannot see"):
        checked(str(link))


def test_what_is_no_model_is_refused(folder: Path) -> None:
    """A relative path, a file, nothing, an empty folder, a pipe, a link to a folder."""
    with pytest.raises(InvalidInput, match="not an absolute path"):
        checked("models/tiny")
    with pytest.raises(InvalidInput, match="not an absolute path"):
        checked(f"{folder}/../tiny")
    with pytest.raises(InvalidInput, match="is not a folder"):
        checked(str(folder / "config.json"))
    with pytest.raises(InvalidInput, match="No such file"):
        checked(str(folder / "missing"))
    empty = folder.parent / "empty"
    empty.mkdir()
    with pytest.raises(InvalidInput, match="has no files"):
        checked(str(empty))
    os.mkfifo(empty / "pipe")
    with pytest.raises(InvalidInput, match="is not a regular file"):
        checked(str(empty))
    (folder / "more").symlink_to(empty)
    with pytest.raises(InvalidInput, match="a link to a folder"):
        checked(str(folder))


def test_a_tree_without_end_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder given by mistake costs no minutes of the daemon's only thread."""
    monkeypatch.setattr(models, "MOST_ENTRIES", 2)
    with pytest.raises(InvalidInput, match="more than 2 files"):
        checked(str(folder))


def test_a_name_stands_for_one_folder(table: Models) -> None:
    """The last one; a name that is not there is named."""
    table.add(Model("Qwen/Qwen3-0.6B", "/srv/a", 1.0))
    table.add(Model("tiny", "/srv/t", 2.0))
    table.add(Model("Qwen/Qwen3-0.6B", "/srv/b", 3.0))
    assert table.all() == (Model("Qwen/Qwen3-0.6B", "/srv/b", 3.0), Model("tiny", "/srv/t", 2.0))
    assert table.remove("tiny").folder == "/srv/t"
    with pytest.raises(NotFound, match="no model 'tiny'"):
        table.remove("tiny")
