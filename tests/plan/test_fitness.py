"""What a machine lacks for images that are more than a Python environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flyted.layers.words import BASE, IDS, KEYRING, MMDEBSTRAP
from flyted.plan.images.fitness import NEEDED, PROFILE, MachineFacts, lacks
from flyted.plan.images.layer_unit import layer_unit

ROOT = Path(__file__).parents[2]
APPARMOR = {"kernel/apparmor_restrict_unprivileged_userns": "1"}
GOOD = MachineFacts(
    kernel=(6, 1), overlay=True,
    switches={"user/max_user_namespaces": "95000", "kernel/unprivileged_userns_clone": "1"},
    subordinate="alice:100000:65536\nbob:165536:65536\n", files=NEEDED, free_bytes=10 << 30,
)  # fmt: skip


def test_an_ordinary_debian_lacks_nothing() -> None:
    """Nor does one whose kernel has none of the switches."""
    assert list(lacks(GOOD)) == []
    assert list(lacks(replace(GOOD, switches={}))) == []


@pytest.mark.parametrize(
    ("changed", "detail", "hint"),
    [
        ({"kernel": (5, 10)}, "the kernel is 5.10", "upgrade the kernel"),
        ({"overlay": False}, "no overlayfs", "modprobe overlay"),
        ({"switches": {"user/max_user_namespaces": "0"}}, "max_user_namespaces is 0", "user.max_user_namespaces=1000"),
        ({"switches": {"kernel/unprivileged_userns_clone": "0"}}, "userns_clone is 0", "unprivileged_userns_clone=1"),
        (
            {"switches": APPARMOR, "profiles": frozenset({"slirp4netns", "flyted2"})},
            "apparmor_restrict_unprivileged_userns is 1",
            "sudo apt install --reinstall flyted loads a profile for flyted alone; for all programs: sysctl",
        ),
        ({"subordinate": f"carol:{BASE - 1}:2\n"}, "carol has user or group ids", "usermod --del-subuids"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_what_to_type(changed: dict[str, object], detail: str, hint: str) -> None:
    """Without it nothing but Python environments can be built."""
    (found,) = lacks(replace(GOOD, **changed))  # type: ignore[arg-type]
    assert detail in found.detail
    assert hint in found.hint
    assert found.fatal


def test_apparmor_does_not_restrict_a_program_with_a_profile() -> None:
    """Both units that begin user namespaces ask for the package's; where there is none they do without."""
    assert list(lacks(replace(GOOD, switches=APPARMOR, profiles=frozenset({PROFILE})))) == []
    other = {"user/max_user_namespaces": "0"}
    assert len(list(lacks(replace(GOOD, switches=other, profiles=frozenset({PROFILE}))))) == 1
    assert layer_unit("a" * 32, b"{}", network=False)["AppArmorProfile"] == (True, PROFILE)
    assert f"\nAppArmorProfile=-{PROFILE}\n" in (ROOT / "units/flyted-net.service").read_text()
    assert (
        f"\nprofile {PROFILE} flags=(unconfined) {{\n  userns,\n" in (ROOT / "packaging/apparmor/flyted").read_text()
    )


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ({"files": frozenset({KEYRING})}, MMDEBSTRAP),
        ({"files": frozenset({MMDEBSTRAP})}, KEYRING),
        ({"free_bytes": 1 << 30}, "1024 MiB"),
    ],
)  # fmt: skip
def test_what_some_images_need_is_a_warning(changed: dict[str, object], detail: str) -> None:
    """A pulled base needs no mmdebstrap; a small image little room."""
    (found,) = lacks(replace(GOOD, **changed))  # type: ignore[arg-type]
    assert detail in found.detail
    assert not found.fatal


@pytest.mark.parametrize(
    "line",
    ["", "#", "carol", "carol:x:y", f"carol:{BASE}", f"carol:{BASE}:0", f"carol:{BASE + IDS}:9", f"carol:{BASE - 9}:9",
     "carol:²:9", "carol:-1:9", f"carol:{BASE}:9:9"],
)  # fmt: skip
def test_other_ranges_and_lines_that_are_none_are_no_clash(line: str) -> None:
    """Ranges that only touch ours do not overlap it."""
    assert list(lacks(replace(GOOD, subordinate=line))) == []
