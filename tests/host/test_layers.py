"""Which file a path leads to in stacked layers, as the kernel's overlay would have it."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyted.host import layers
from flyted.host.layers import Stack
from flyted.plan.facts import Place

LOW, HIGH = "1" * 32, "2" * 32


def made(folder: Path, layer: str, *paths: str) -> None:
    """Files of a layer; ``path -> target`` is a link, ``path/`` a folder."""
    for each in paths:
        path, arrow, target = each.partition(" -> ")
        at = folder / layer / "diff" / path
        at.parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            at.symlink_to(target)
        elif path.endswith("/"):
            at.mkdir(exist_ok=True)
        else:
            at.touch()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose files may have the marks of an overlay. One on an overlay, as /tmp may be, has none.

    Some kernels take the attribute there, and no device that stands for what is gone.
    """
    try:
        os.setxattr(tmp_path, "user.overlay.any", b"")
        os.mknod(tmp_path / "gone", stat.S_IFCHR, 0)
        (tmp_path / "gone").unlink()
    except PermissionError:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as found:
            yield Path(found)
    else:
        yield tmp_path


@pytest.fixture
def stack(folder: Path) -> Stack:
    made(
        folder, LOW, "usr/bin/python3.12", "usr/bin/python3 -> python3.12", "bin -> usr/bin", "gone/file",
        "opaque/low", "file", "loop -> loop", "up -> ../../../bin/python3", "was/folder/x",
    )  # fmt: skip
    made(folder, HIGH, "venv/bin/python -> /bin/python3", "opaque/high", "file/below", "was/folder", "usr/bin/more")
    os.setxattr(folder / HIGH / "diff/opaque", "user.overlay.opaque", b"y")
    os.mknod(folder / HIGH / "diff/gone", stat.S_IFCHR, 0)
    return Stack(folder, (LOW, HIGH))


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/venv/bin/python", "/usr/bin/python3.12"),
        ("/up", "/usr/bin/python3.12"),
        ("/../bin/./more", "/usr/bin/more"),
        ("/gone", ""),
        ("/gone/file", ""),
        ("/opaque/low", ""),
        ("/opaque/high", "/opaque/high"),
        ("/file/below", "/file/below"),
        ("/was/folder/x", ""),
        ("/was/folder", "/was/folder"),
        ("/loop", ""),
        ("/nothing", ""),
        ("/" + "x" * 300, ""),
        ("/usr/bin/python3.12/x", ""),
        ("/", "/"),
    ],
)
def test_a_path_leads_where_the_overlay_has_it(stack: Stack, path: str, real: str) -> None:
    """Whiteouts, opaque folders, files in place of folders; no link leads out."""
    assert stack.real(path) == real


def test_where_a_path_leads_that_is_not_there(folder: Path, stack: Stack) -> None:
    """Links count as far as there are some; what follows is as it is written."""
    made(folder, HIGH, "away -> /usr/lib/flyted/host/share", "var -> none/../other", "twice -> away/x")
    for path, where in {
        "/away/made": "/usr/lib/flyted/host/share/made", "/var/lib/x": "/other/lib/x", "/new/x/../y": "/new/y",
        "/twice/deep/../z": "/usr/lib/flyted/host/share/x/z", "/bin/new": "/usr/bin/new", "/loop/x": "", "/": "/",
        "/venv/bin/python": "/usr/bin/python3.12", "/gone/x": "/gone/x",
    }.items():  # fmt: skip
        assert stack.leads_to(path) == where, path
        assert where in ("", stack.real(path)) or stack.real(path) == ""


def test_what_is_at_a_path(stack: Stack, folder: Path) -> None:
    """By the image's links, unless these are what is asked for."""
    made(folder, HIGH, "nowhere -> missing/x", "top -> ../..", "to -> loop")
    places = {
        "/usr": Place.FOLDER, "/bin": Place.FOLDER, "/top": Place.FOLDER, "/up": Place.FILE, "/loop": Place.LOOP,
        "/to": Place.LOOP, "/gone": Place.NOTHING, "/nowhere": Place.NOTHING, "/file": Place.FOLDER,
        "/usr/bin/python3/x": Place.NOTHING, "/was/folder": Place.FILE,
    }  # fmt: skip
    assert {path: stack.place(path) for path in places} == places
    bare = {
        "/usr": Place.FOLDER,
        "/bin": Place.FILE,
        "/loop": Place.FILE,
        "/nowhere": Place.FILE,
        "/gone": Place.NOTHING,
    }
    assert {path: stack.place(path, links=False) for path in bare} == bare


def test_the_folders_of_an_image(folder: Path, stack: Stack) -> None:
    """As they are stacked: what a higher layer deletes or covers is not there, and no link is followed."""
    me = os.geteuid()
    assert stack.below("/") == [("/file", me), ("/opaque", me), ("/usr", me), ("/venv", me), ("/was", me)]
    assert stack.below("/bin") == stack.below("/gone") == stack.below("/was/folder") == []
    assert stack.size("/usr", 100, 100) == (4, 0)
    assert stack.size("/usr", 1, 100)[0] > 1
    (folder / LOW / "diff/usr/bin/python3.12").write_text("x" * 7)
    assert stack.size("/usr", 100, 100) == (4, 7)


def test_a_folder_without_end_is_looked_at_in_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it comes from a stranger, and the daemon looks at each entry in each layer."""
    made(folder, LOW, *(f"run/{number}/" for number in range(9)))
    monkeypatch.setattr(layers, "MOST_LOOKED_AT", 4)
    stack = Stack(folder, (LOW,))
    assert [path for path, _owner in stack.below("/run")] == ["/run/0", "/run/1", "/run/2", "/run/3"]
    assert stack.size("/run", 100, 100) == (4, 0)


def test_a_text_of_an_image(folder: Path, stack: Stack) -> None:
    """Of a file, by links of the image; never of a pipe, a folder or the machine's files."""
    (folder / LOW / "diff/usr/bin/python3.12").write_text("text")
    os.mkfifo(folder / HIGH / "diff/pipe")
    (folder / HIGH / "diff/out").symlink_to("../../../../../../../../../etc/passwd")
    assert stack.text("/up", 100) == "text"
    for path in ("/pipe", "/out", "/usr", "/none", "/loop"):
        assert stack.text(path, 100) == "", path


def test_links_that_lead_far_are_not_followed_to_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link may name a thousand folders, forty links may follow each other, and each is looked for in each layer."""
    far = "/".join(["d/.."] * 300)
    made(folder, LOW, "d/", *(f"a{number} -> {far}/a{number + 1}" for number in range(30)), "a30")
    made(folder, LOW, f"near -> {far}/a30", "/".join(["e"] * 100) + "/")
    looked, entries = 0, layers._entries

    def counted(*given: object) -> list[str]:
        nonlocal looked
        looked += 1
        return entries(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(layers, "_entries", counted)
    stack = Stack(folder, (LOW,))
    assert stack.place("/a0") == Place.LOOP
    assert stack.real("/a0") == ""
    assert looked <= 2 * layers.MOST_NAMES
    assert stack.real("/near") == "/a30"
    assert stack.real("/e" * 100) == "/e" * 100
