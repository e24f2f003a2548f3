"""The mount of an image's root, as PID 1 is asked for it, for old kernels and new ones."""

from __future__ import annotations

import pytest

from flyted.contract.names import Replica
from flyted.host.signatures import auxiliary
from flyted.plan.images import root_mount
from flyted.plan.images.layer_unit import LAYERS

REPLICA = Replica("web", 3)
LOW, HIGH = "a" * 32, "b" * 32
TOP = f"{LAYERS}/{HIGH}/diff"
BOTTOM = f"{LAYERS}/{LOW}/diff"


def test_the_unit_is_named_after_its_path_as_systemd_wants_it() -> None:
    """systemd.mount(5): slashes are hyphens, so no hyphen may be in a folder's name, or it would be ``\\x2d``."""
    replica = Replica("a-web-app", 3)
    assert root_mount.path(replica) == "/run/flyted/roots/a_web_app_r3_0/root"
    assert root_mount.unit(replica) == "run-flyted-roots-a_web_app_r3_0-root.mount"
    assert len(root_mount.unit(Replica("a-" * 31 + "a", 999_999_999, 9999))) < 255, "UNIT_NAME_MAX"


def test_a_kernel_that_takes_layers_one_by_one_gets_the_topmost_first() -> None:
    """Since 6.8 there is no limit on their number but the kernel's own, 500."""
    options = root_mount.options(REPLICA, (LOW, HIGH), (6, 8)).split(",")
    assert options[:2] == [f"lowerdir+={TOP}", f"lowerdir+={BOTTOM}"]
    assert root_mount.properties(REPLICA, (LOW,), (6, 8))["Environment"] == []


@pytest.mark.parametrize("kernel", [(6, 7), (6, 1), (5, 15)])
def test_an_older_kernel_gets_them_in_one_text_by_mount_2(kernel: tuple[int, int]) -> None:
    """fsconfig(2), which util-linux 2.39 uses, takes 255 bytes of it; ``lowerdir+=`` is refused by 6.1."""
    options = root_mount.options(REPLICA, (LOW, HIGH), kernel).split(",")
    assert options[0] == f"lowerdir={TOP}:{BOTTOM}"
    assert root_mount.properties(REPLICA, (LOW,), kernel)["Environment"] == ["LIBMOUNT_FORCE_MOUNT2=always"]


def test_pid_1_makes_and_deletes_what_the_root_needs() -> None:
    """The daemon could not delete what PID 1 copies up: it belongs to the layers' owner."""
    made = root_mount.properties(REPLICA, (LOW,), (6, 12))
    here = "/run/flyted/roots/web_r3_0"
    folders = [here, f"{here}/upper", f"{here}/upper/root", f"{here}/upper/home", f"{here}/work"]
    assert [f"/run/{each}" for each in made["RuntimeDirectory"]] == folders
    assert made["StopWhenUnneeded"] is True
    options = made["Options"].split(",")
    assert {f"upperdir={here}/upper", f"workdir={here}/work", "userxattr", "nosuid", "nodev"} <= set(options)


def test_what_is_bound_over_a_home_is_no_link_of_the_image() -> None:
    """systemd follows links in it on the machine: it is a folder of PID 1's above all layers, and directly below /."""
    upper = f"/run/{root_mount.ROOTS}/web_r3_0/upper"
    made = {f"/run/{each}" for each in root_mount.properties(REPLICA, (LOW,), (6, 12))["RuntimeDirectory"]}
    for source, home in root_mount.home_binds(REPLICA):
        assert source == f"{root_mount.path(REPLICA)}{home}"
        assert f"{upper}{home}" in made
        assert home.count("/") == 1


def test_each_property_can_be_sent() -> None:
    """As the other units of a start are."""
    assert auxiliary([(root_mount.unit(REPLICA), root_mount.properties(REPLICA, (LOW, HIGH), (6, 1)))])
