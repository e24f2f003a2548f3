"""COPY --from: files of a tree that a stranger has made, under the names that were asked for, and of nothing else."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.layers import stage
from flyted.layers.copying import Order, copy
from flyted.layers.damaged import Damaged
from flyted.layers.failed import Failed
from flyted.layers.inside import Inside
from tests.layers.archives import tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The stage, beside something that is not of it."""
    (tmp_path / "secret").write_text("secret")
    made = tmp_path / "stage"
    for name in ("usr/lib/a.so", "usr/lib/b.so", "usr/lib/c.txt", "app/bin/tool", "app/data/deep/file"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    (made / "app/bin/tool").chmod(0o751)
    (made / "lib").symlink_to("usr/lib")
    (made / "current").symlink_to("/app")
    (made / "app/bin/other").symlink_to("tool")
    return made


@pytest.fixture
def opened(root: Path) -> Iterator[Inside]:
    inside = Inside(str(root))
    yield inside
    inside.close()


def take(opened: Inside, source: str, target: Path | str, *, glob: bool = False, **how: Any) -> None:
    copy(stage.items(opened, source, glob=glob), Order(source, str(target), None, glob=glob, **how))


def test_files_folders_and_links(opened: Inside, tmp_path: Path) -> None:
    """A link that is named is followed, in the stage; one in a folder is copied as it is."""
    take(opened, "app/bin/tool", tmp_path / "one")
    assert (tmp_path / "one").read_text() == "app/bin/tool"
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o751
    take(opened, "current", tmp_path / "app")
    assert tree(tmp_path / "app") == {
        "bin": "/", "bin/other": "-> tool", "bin/tool": "app/bin/tool", "data": "/", "data/deep": "/",
        "data/deep/file": "app/data/deep/file",
    }  # fmt: skip
    take(opened, "app/bin/other", f"{tmp_path}/into/")
    assert (tmp_path / "into/other").read_text() == "app/bin/tool"
    assert not (tmp_path / "into/other").is_symlink()
    take(opened, ".", tmp_path / "all")
    assert (tmp_path / "all/lib").is_symlink()
    assert (tmp_path / "all/usr/lib/a.so").exists()


def test_patterns(opened: Inside, tmp_path: Path) -> None:
    """Through links to folders of the stage."""
    take(opened, "lib/*.so", f"{tmp_path}/libs/", glob=True)
    assert sorted(tree(tmp_path / "libs")) == ["a.so", "b.so"]
    take(opened, "a*/d*", f"{tmp_path}/data/", glob=True)
    assert tree(tmp_path / "data") == {"deep": "/", "deep/file": "app/data/deep/file"}
    with pytest.raises(Failed, match=r"has nothing that matches lib/\*\.js"):
        take(opened, "lib/*.js", f"{tmp_path}/none/", glob=True)
    with pytest.raises(Failed, match=r"has no nowhere"):
        take(opened, "nowhere", f"{tmp_path}/none/")


def test_hard_links_stay_and_what_is_no_file_is_left_out(opened: Inside, root: Path, tmp_path: Path) -> None:
    """Pipes and sockets mean nothing in an image; no process waits for one."""
    (root / "app/again").hardlink_to(root / "app/bin/tool")
    os.mkfifo(root / "app/pipe")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(root / "app/sock"))
    listening.close()
    take(opened, "app", tmp_path / "to")
    assert (tmp_path / "to/again").stat().st_ino == (tmp_path / "to/bin/tool").stat().st_ino
    assert sorted(each.name for each in (tmp_path / "to").iterdir()) == ["again", "bin", "data"]
    with pytest.raises(Failed, match="has no app/pipe"):
        take(opened, "app/pipe", tmp_path / "pipe")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("up", "../secret"), ("deep/up", "../../../../../../secret"), ("up-folder", ".."), ("self", "self"),
        ("absolute", "{outside}/secret"), ("proc", "/proc/self/root{outside}/secret"), ("a", "b"),
        ("folder/link", "{outside}"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("glob", [False, True])
def test_no_link_leads_out(opened: Inside, root: Path, tmp_path: Path, name: str, target: str, *, glob: bool) -> None:
    """Named, on the way, by a pattern: what is outside is not there; and links in a circle end."""
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).symlink_to(target.format(outside=tmp_path))
    (root / "b").symlink_to("a")
    for source in (name, f"{name}/secret", f"{name}/../secret", "*/secret" if glob else "b"):
        to = tmp_path / "to"
        try:
            take(opened, source, f"{to}/", glob=glob)
        except Failed as refused:
            assert "\n" not in str(refused)
        if to.exists():
            assert not any(path.is_file() and path.read_bytes() == b"secret" for path in to.rglob("*")), source
        try:
            found = stage.real_path(opened, source)
        except (FileNotFoundError, Damaged):
            continue
        assert (root / found).resolve().is_relative_to(root)
        assert not (root / found).is_symlink()


def test_a_deep_tree_ends(opened: Inside, root: Path, tmp_path: Path) -> None:
    """One line, and no error of Python's."""
    made = os.open(root / "app", os.O_RDONLY)
    for _ in range(420):  # what shutil can remove again
        os.mkdir("d", dir_fd=made)
        below = os.open("d", os.O_RDONLY, dir_fd=made)
        os.close(made)
        made = below
    os.close(made)
    with pytest.raises(Failed, match="more than 400 nested folders"):
        take(opened, "app", tmp_path / "to")
