"""Changes to files are heard of however they are made, and nothing is heard of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flyted.host.people import FILES, in_files
from flyted.host.watch_files import FileWatch

pytestmark = pytest.mark.slow

SOME_S = 0.2


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A folder as /etc is."""
    for name in ("group", "passwd", "hosts"):
        (tmp_path / name).write_text("before\n")
    return tmp_path


@pytest.fixture
def watch(etc: Path) -> Iterator[FileWatch]:
    """A watch on the files that say who is who."""
    made = FileWatch(etc, FILES)
    assert made.hears
    yield made
    made.close()


def heard(watch: FileWatch, change: Callable[[], object]) -> int:
    """How often a change was told of."""
    told: list[int] = []

    async def scene() -> None:
        watch.start(lambda: told.append(1))
        change()
        await asyncio.sleep(SOME_S)

    asyncio.run(scene())
    return len(told)


def replaced(etc: Path, name: str) -> None:
    """As adduser(8) does it: written beside, renamed over."""
    (etc / f"{name}+").write_text("after\n")
    (etc / f"{name}+").rename(etc / name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_replaced_is_heard_of_again_and_again(watch: FileWatch, etc: Path, name: str) -> None:
    """The watch is on the folder: a rename leaves none behind on a file that is gone."""
    for _ in range(3):
        assert heard(watch, lambda: replaced(etc, name)) >= 1


@pytest.mark.parametrize(
    "change",
    [
        lambda etc: (etc / "group").write_text("in place\n"),
        lambda etc: (etc / "group").unlink(),
        lambda etc: (etc / "nsswitch.conf").write_text("new\n"),
        lambda etc: (etc / "passwd").rename(etc / "passwd.away"),
    ],
)
def test_every_other_change_is_heard_of(watch: FileWatch, etc: Path, change: Callable[[Path], object]) -> None:
    """Written in place, deleted, made, moved away."""
    assert heard(watch, lambda: change(etc)) >= 1


def test_other_files_are_nobodys_business(watch: FileWatch, etc: Path) -> None:
    """Nor is one that is only read."""

    def change() -> None:
        replaced(etc, "hosts")
        (etc / "group-").write_text("a backup\n")
        (etc / "group").read_text()

    assert heard(watch, change) == 0


def test_what_happened_before_the_loop_listens_is_heard_of(watch: FileWatch, etc: Path) -> None:
    """Between the making of the watch and its start nothing is lost."""
    replaced(etc, "group")
    assert heard(watch, lambda: None) == 1


def test_a_flood_of_changes_is_one_at_least(watch: FileWatch, etc: Path) -> None:
    """More than the kernel keeps (fs.inotify.max_queued_events): what was lost may have been about our files."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 50_000:
        pytest.skip("the kernel keeps too many")
    for n in range(most // 3 + 10):
        (etc / f"x{n % 2}").write_text("")
        (etc / f"x{n % 2}").unlink()
    assert heard(watch, lambda: None) >= 1


def test_a_folder_that_cannot_be_watched_is_no_failure(tmp_path: Path) -> None:
    """Somebody has to look then."""
    watch = FileWatch(tmp_path / "none", FILES)
    assert not watch.hears
    watch.start(lambda: None)
    watch.close()


def test_a_watch_that_is_closed_leaves_its_number_to_others(etc: Path) -> None:
    """The loop that runs on knows nothing of it: a new watch, which gets the same descriptor, hears of changes."""
    told: list[int] = []

    async def scene() -> None:
        for number in range(2):
            watch = FileWatch(etc, FILES)
            watch.start(lambda number=number: told.append(number))  # type: ignore[misc]
            replaced(etc, "group")
            await asyncio.sleep(SOME_S)
            watch.close()

    asyncio.run(scene())
    assert set(told) == {0, 1}


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ("passwd: files systemd\ngroup: files systemd\n", True),
        ("passwd: files # sss\ngroup: files [!UNAVAIL=return] systemd\nhosts: files dns\n", True),
        ("passwd: files sss\ngroup: files\n", False),
        ("passwd: files\ngroup: files [SUCCESS=merge] ldap\n", False),
        ("passwd: files\ngroup: files\ninitgroups: sss\n", False),
        ("passwd: compat\ngroup: compat\n", False),
    ],
)
def test_where_people_are_told_apart_from_files(tmp_path: Path, text: str, *, only: bool) -> None:
    """Another source of nsswitch.conf(5) for users or groups, or homed, changes without a file that is watched."""
    assert not in_files(tmp_path, tmp_path / "homed"), "nobody says it"
    (tmp_path / "nsswitch.conf").write_text(text)
    assert in_files(tmp_path, tmp_path / "homed") is only
    (tmp_path / "homed").touch()
    assert not in_files(tmp_path, tmp_path / "homed")
