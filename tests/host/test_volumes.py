"""Which folders can be volumes: none that could lead elsewhere, none of the system, and what apps need to write."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from flyted.contract.errors import AlreadyExists, InvalidInput, NotFound
from flyted.host import volumes
from flyted.host.database import Database
from flyted.host.volumes import Volume, Volumes, checked

SHARED = 0o2770


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose parents are root's, as far as the check can see, and which belongs to the volume's group."""
    real = os.lstat

    def rooted(path: str) -> object:
        found = real(path)
        mode = found.st_mode & ~0o022 if str(tmp_path).startswith(str(path)) else found.st_mode
        return SimpleNamespace(st_uid=0, st_mode=mode, st_gid=found.st_gid)

    monkeypatch.setattr(os, "lstat", rooted)
    monkeypatch.setattr(volumes, "_BELOW", ("/etc", "/var/lib/private"))
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: SimpleNamespace(gr_name="flyted-vol-photos"))
    made = tmp_path / "photos"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    ("mode", "read_only", "group"),
    [(0o755, True, ""), (0o2750, True, "flyted-vol-photos"), (0o750, True, "flyted-vol-photos"),
     (SHARED, True, "flyted-vol-photos"), (SHARED, False, "flyted-vol-photos")],
)  # fmt: skip
def test_apps_read_what_everybody_may_and_write_by_a_group(
    folder: Path, mode: int, read_only: bool, group: str
) -> None:
    """The group is named only where it is needed."""
    folder.chmod(mode)
    assert checked("photos", str(folder), read_only=read_only) == group


@pytest.mark.parametrize(
    ("mode", "read_only", "why"),
    [(0o700, True, "may not read"), (0o755, False, "may not write"), (0o770, False, "may not write"),
     (0o2750, False, "may not write"), (0o2775, False, "everybody may read")],
)  # fmt: skip
def test_what_apps_may_not_use_is_refused_with_what_to_type(
    folder: Path, mode: int, read_only: bool, why: str
) -> None:
    """An operator copies the line."""
    folder.chmod(mode)
    with pytest.raises(InvalidInput, match=why) as caught:
        checked("photos", str(folder), read_only=read_only)
    assert str(folder) in caught.value.hint


def test_a_group_of_another_name_is_none_of_the_volumes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's or the shadow file's would give an app the machine."""
    folder.chmod(SHARED)
    for found in ("docker", "flyted", "flyted-vol-other"):
        monkeypatch.setattr(grp, "getgrgid", lambda _gid, found=found: SimpleNamespace(gr_name=found))
        with pytest.raises(InvalidInput, match="as group flyted-vol-photos") as caught:
            checked("photos", str(folder), read_only=False)
        assert "groupadd --system flyted-vol-photos" in caught.value.hint

    def unknown(_gid: int) -> object:
        raise KeyError

    monkeypatch.setattr(grp, "getgrgid", unknown)
    with pytest.raises(InvalidInput, match="as group flyted-vol-photos"):
        checked("photos", str(folder), read_only=False)


def test_no_part_of_the_path_is_a_link(folder: Path) -> None:
    """PID 1 would follow it; and it could be another one tomorrow."""
    (folder.parent / "link").symlink_to(folder)
    (folder / "inner").mkdir()
    for path in (folder.parent / "link", folder.parent / "link" / "inner"):
        with pytest.raises(InvalidInput, match=r"link' is a link"):
            checked("photos", str(path), read_only=True)
    (folder / "file").touch()
    with pytest.raises(InvalidInput, match="is not a folder"):
        checked("photos", str(folder / "file"), read_only=True)
    with pytest.raises(InvalidInput, match="No such file"):
        checked("photos", str(folder / "missing"), read_only=True)


def test_nobody_but_root_can_put_a_link_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/tmp, or somebody's home, is no place for a volume."""
    monkeypatch.setattr(volumes, "_BELOW", ())
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    (home / "photos").mkdir()
    with pytest.raises(InvalidInput, match="others than root can put a link"):
        checked("photos", str(home / "photos"), read_only=True)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/etc", "/etc/ssl", "/proc", "/proc/1", "/sys", "/dev/shm", "/run", "/run/flyted", "/usr/share", "/root",
        "/home", "/home/alice/photos", "/var", "/var/lib", "/var/cache", "/var/lib/private",
        "/var/lib/private/flyted-app-a",
        "/var/lib/flyted", "/var/lib/flyted/secrets", "/var/lib/flyted-app-a", "/var/cache/private/flyted-app-a",
        "/var/lib/systemd", "/tmp/x", "/var/tmp/x", "/boot", "/bin", "/lib/x", "/var/log",
    ],
)  # fmt: skip
def test_the_systems_folders_and_apps_folders_are_no_volumes(path: str) -> None:
    """Nor is what they are in."""
    with pytest.raises(InvalidInput, match=r"is the system's|is not an absolute path"):
        checked("photos", path, read_only=True)


@pytest.mark.parametrize("path", ["", "photos", "/srv/../etc", "/srv/./x", "/srv//x", "/srv/", "/srv/a:b", "/srv/a b",
                                  "/srv/%n", "/srv/a\nb", "/srv/" + "x" * 1000, "/srv/ünï"])  # fmt: skip
def test_a_path_is_absolute_and_plain(path: str) -> None:
    """What systemd would read back in another way is refused."""
    with pytest.raises(InvalidInput, match="is not an absolute path"):
        checked("photos", path, read_only=True)


def test_the_table(tmp_path: Path) -> None:
    """A name is one folder until it is removed."""
    database = Database(tmp_path / "flyted.db")
    table = Volumes(database)
    one = Volume("photos", "/srv/photos", read_only=True, added_at=5.0)
    table.add(one)
    with pytest.raises(AlreadyExists, match="volume 'photos' is /srv/photos"):
        table.add(Volume("photos", "/srv/other", read_only=False, added_at=6.0))
    assert (table.all(), table.find("photos")) == ((one,), one)
    table.remove("photos")
    assert table.all() == ()
    with pytest.raises(NotFound, match="there is no volume"):
        table.find("photos")
    database.close()


def test_modes_are_those_of_the_tests() -> None:
    """SHARED is what the hint makes."""
    assert SHARED == stat.S_ISGID | stat.S_IRWXU | stat.S_IRWXG
