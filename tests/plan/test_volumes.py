"""Volumes and ``/data`` in an app's units: what is bound where, and what an image or the machine keeps in sight."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from flyted.contract.errors import InvalidInput
from flyted.contract.names import Replica
from flyted.contract.volumes import VolumeUse
from flyted.host.signatures import properties
from flyted.launch.options import Options, parse
from flyted.plan.facts import Capacity, Place, Platform, RootFact
from flyted.plan.notes import notes
from flyted.plan.units import UnitPair, app_units
from flyted.plan.volumes import check, check_links
from tests.values import parameters_of, spec

REPLICA = Replica("web", 1)
PHOTOS = VolumeUse("photos", "/mnt/photos", "ro", "/srv/photos")
MUSIC = VolumeUse("music", "/mnt/music", "rw", "/srv/music", "flyted-vol-music")
ROOT = RootFact(("a" * 32,), python="/usr/bin/python3", volumes=("/data", "/var/lib/x"))
FREE = Platform(data=True)
OWN = ("/var/lib/private/flyted-app-web", "/data", False, 0)


def shown_in(folder: str) -> str:
    return parameters_of({"name": "m", "type": "directory", "value": "/srv/m", "dest": folder, "download": True})


def units(root: RootFact | None = None, platform: Platform = FREE, **changes: Any) -> UnitPair:
    return app_units(spec("web", **changes), REPLICA, image_path="/usr", root=root, platform=platform)


def told(pair: UnitPair) -> Options:
    ((_path, argv, _flags),) = pair.service["ExecStartEx"]
    return parse([*argv[argv.index("--app") : argv.index("--start")], *json.loads(pair.start)["words"]])


def test_an_app_finds_its_data_at_data_unless_the_machine_has_files_there() -> None:
    """The whole folder: nothing that the app could replace by a link is the source of a mount."""
    assert units().service["BindPaths"] == [OWN]
    assert properties(units().service)
    assert "BindPaths" not in units(platform=Platform()).service


def test_a_volume_of_the_image_at_data_is_the_apps_data() -> None:
    """Not in memory, and not filled. What the image has there stays in sight, as it was."""
    free = units(dataclasses.replace(ROOT, data=True), Platform())
    assert free.service["BindPaths"] == [OWN]
    assert [path for path, _ in free.service["TemporaryFileSystem"] if path in ROOT.volumes] == ["/var/lib/x"]
    assert told(free).volumes == ["/var/lib/x"]
    shipped = units(ROOT)
    assert "BindPaths" not in shipped.service
    assert told(shipped).volumes == ["/data", "/var/lib/x"]


def test_no_folder_of_the_operators_is_filled_from_the_image() -> None:
    """It takes the place of the image's volume, which is neither in memory nor copied then."""
    pair = units(ROOT, volumes=(dataclasses.replace(MUSIC, path="/var/lib/x"),))
    assert told(pair).volumes == ["/data"]
    assert "/var/lib/x" not in [path for path, _ in pair.service["TemporaryFileSystem"]]


@pytest.mark.parametrize("root", [None, ROOT])
def test_volumes_are_bound_and_launch_sees_to_it_that_they_are_there(root: RootFact | None) -> None:
    """PID 1 leaves out what is missing."""
    pair = units(root, volumes=(PHOTOS, MUSIC))
    assert ("/srv/photos", "/mnt/photos", True, 0x4000) in pair.service["BindReadOnlyPaths"]
    assert ("/srv/music", "/mnt/music", True, 0x4000) in pair.service["BindPaths"]
    assert pair.service["RequiresMountsFor"] == ["/srv/music", "/srv/photos"]
    assert (pair.service["SupplementaryGroups"], pair.service["UMask"]) == (["flyted-vol-music"], 0o007)
    assert told(pair).mounted == ["photos:/mnt/photos:/srv/photos", "music:/mnt/music:/srv/music"]
    assert properties(pair.service)
    assert (("/mnt", "ro,mode=755,size=1m") in pair.service["TemporaryFileSystem"]) is (root is None)


def test_what_an_app_reads_in_the_machines_mnt_stays_in_sight() -> None:
    """A folder in memory takes its place, in which the mount points are made."""
    pair = units(volumes=(PHOTOS,), python_env="/mnt/env", models=(("m", "/mnt/models/m"), ("n", "/srv/n")))
    shown = [path for path, *_ in pair.service["BindReadOnlyPaths"] if path.startswith(("/mnt", "/srv/n"))]
    assert shown == ["/mnt/env", "/mnt/models/m"]
    assert pair.service["UMask"] == 0o077
    assert "SupplementaryGroups" not in pair.service


@pytest.mark.parametrize("folder", ["/data", "/data/models"])
def test_where_a_parameter_is_shown_in_data_the_apps_own_is_not(folder: str) -> None:
    """PID 1 would make the folder in the app's, through whatever link the app has put there."""
    command = ("fserve", "--parameters", shown_in(folder), "--", "serve")
    assert "BindPaths" not in units(command=command).service
    pair = units(dataclasses.replace(ROOT, data=True), command=command)
    assert "BindPaths" not in pair.service
    assert folder in [path for path, _ in pair.service["TemporaryFileSystem"]]
    assert units(command=("fserve", "--parameters", shown_in("/database"), "--", "serve")).service["BindPaths"] == [
        OWN
    ]


def test_a_volume_may_take_the_place_of_data() -> None:
    """The app's own is in its home."""
    pair = units(volumes=(dataclasses.replace(MUSIC, path="/data"),))
    assert pair.service["BindPaths"] == [("/srv/music", "/data", True, 0x4000)]
    pair = units(volumes=(dataclasses.replace(PHOTOS, path="/data"),))
    assert "BindPaths" not in pair.service, "an empty list takes all binds back"


@pytest.mark.parametrize(
    ("path", "rooted", "fits"),
    [
        ("/mnt/x", False, True), ("/models", False, False), ("/mnt", False, False),
        ("/data", False, True), ("/data/x", False, False),
        ("/usr/x", False, False), ("/opt/x", False, False), ("/var/lib/x", False, False), ("/tmp/x", False, False),
        ("/home/x", False, False), ("/proc", False, False), ("/run/x", False, False), ("/etc/x", False, False),
        ("/mnt/x", True, True), ("/data", True, True), ("/data/x", True, False), ("/var/lib/x", True, True),
        ("/opt/x", True, True), ("/usr", True, False), ("/proc/x", True, False), ("/var/lib/private/x", True, False),
        ("/run/flyted/x", True, False), ("/root", True, False), ("/etc/flyte/secrets", True, False),
    ],
)  # fmt: skip
def test_where_a_volume_may_be(path: str, rooted: bool, fits: bool) -> None:
    """Not where the system is, and not inside of what the app can replace by a link."""
    asked = spec(volumes=(VolumeUse("x", path),))
    if fits:
        check(asked, rooted=rooted)
    else:
        with pytest.raises(InvalidInput, match=f"a volume cannot be at {path}") as caught:
            check(asked, rooted=rooted)
        assert "--volume x:/mnt/x" in caught.value.hint


def test_no_volume_is_where_a_parameter_is_shown() -> None:
    """One would hide the other."""
    command = ("fserve", "--parameters", shown_in("/mnt/m"), "--", "serve")
    for path in ("/mnt/m", "/mnt/m/below"):
        with pytest.raises(InvalidInput, match="a parameter is shown in /mnt/m"):
            check(spec(command=command, volumes=(VolumeUse("x", path),)), rooted=False)
    check(spec(command=command, volumes=(VolumeUse("x", "/mnt/mm"),)), rooted=False)


def test_no_link_of_an_image_is_on_the_way_to_a_volume() -> None:
    """PID 1 would make the mount point where it leads: in the machine's /usr, say."""
    there = {"/mnt": Place.FOLDER, "/srv": Place.FILE, "/mnt/deep": Place.FILE}

    def place(path: str, *, links: bool = True) -> Place:
        assert not links
        return there.get(path, Place.NOTHING)

    check_links(spec(volumes=(PHOTOS,)), place)
    for path in ("/srv/x", "/srv", "/mnt/deep/x"):
        with pytest.raises(InvalidInput, match="of the image is no folder"):
            check_links(spec(volumes=(VolumeUse("x", path),)), place)


def test_volumes_are_named_when_an_app_is_served() -> None:
    """Where they are, and what may be done with them."""
    said = list(notes(spec(volumes=(PHOTOS, MUSIC)), Capacity(1 << 40, 64)))
    assert said == [
        "volume photos is /srv/photos, at /mnt/photos, read-only",
        "volume music is /srv/music, at /mnt/music",
    ]
