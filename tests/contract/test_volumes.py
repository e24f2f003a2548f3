"""What an app asks of a volume: names, paths and modes."""

from __future__ import annotations

import pytest

from flyted.contract.app import from_dict, to_dict
from flyted.contract.errors import InvalidInput
from flyted.contract.volumes import MOST, VolumeUse, group_of, of_flag
from tests.values import spec


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("photos:/mnt/photos", VolumeUse("photos", "/mnt/photos")), ("a:/data/:ro", VolumeUse("a", "/data", "ro")),
     ("a-1:/x:rw", VolumeUse("a-1", "/x"))],
)  # fmt: skip
def test_a_flag_is_read(text: str, wanted: VolumeUse) -> None:
    """And written again, as it is shown."""
    assert of_flag(text) == wanted
    assert of_flag(wanted.text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "photos", "photos:", "photos:mnt", ":/mnt", "Photos:/mnt/x", "../x:/mnt/x", "-a:/mnt/x", "a-:/mnt/x",
     "a" * 21 + ":/mnt/x", "photos:/", "photos:/mnt/../etc", "photos:/mnt/./x", "photos://x", "photos:/mnt/x:rx",
     "photos:/mnt/x:ro:x", "photos:/mnt/a b", "photos:/mnt/x\n", "photos:/mnt/%n", "photos:/mnt/$HOME",
     "photos:" + "/x" * 9, "photos:/" + "x" * 65],
)  # fmt: skip
def test_other_flags_are_refused(text: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidInput):
        of_flag(text)


def test_a_spec_keeps_them_and_refuses_those_inside_of_others() -> None:
    """One mount would hide the other, or make folders in it."""
    one = VolumeUse("a", "/mnt/a", folder="/srv/a", group=group_of("a"))
    made = spec(volumes=(one, VolumeUse("b", "/mnt/b", "ro")))
    assert from_dict(to_dict(made)) == made
    for path in ("/mnt/a", "/mnt/a/b"):
        with pytest.raises(InvalidInput, match="would be inside of"):
            spec(volumes=(one, VolumeUse("b", path)))
    assert spec(volumes=(one, VolumeUse("b", "/mnt/a-b"), VolumeUse("c", "/mnt/ab")))
    with pytest.raises(InvalidInput, match=f"more than {MOST} volumes"):
        spec(volumes=tuple(VolumeUse("a", f"/mnt/{number}") for number in range(MOST + 1)))
    one_path = {"name": "a", "path": "/x"}
    bad: tuple[object, ...] = ({"name": "a"}, {**one_path, "mode": 1}, {**one_path, "more": ""}, [])
    for data in bad:
        with pytest.raises(InvalidInput):
            from_dict({**to_dict(made), "volumes": [data]})
    with pytest.raises(InvalidInput, match="a folder that cannot be used"):
        VolumeUse("a", "/x", folder="/srv\n")
