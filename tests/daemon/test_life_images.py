"""Builds and removals of images, on the machine of ``life.py``: what goes on beside what."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyted.plan.images.build_unit import KEEP_FREE
from flyted.plan.images.unused import KEPT_S
from tests.daemon.life import Life, up
from tests.daemon.rest import rest

HALF, OTHER = "a" * 32, "b" * 32


def images(life: Life) -> set[str]:
    """The names of the folders of images."""
    return {path.name for path in life.world.images.iterdir()}


def half(life: Life, name: str) -> Path:
    """An image whose build was killed."""
    made = life.world.images / name
    made.mkdir()
    return made


def unused_environment(life: Life) -> None:
    """A Python environment with httpx, whose only app is deleted again."""
    life.serve("a", build="httpx")
    life.run(7)
    life.call("delete", "a", keep_data=False)
    life.run(5)


def test_two_who_want_one_image_wait_for_one_build(life: Life) -> None:
    """Both hear the end; the second is told why it waits."""
    first, second = life.serve("a", build="httpx"), life.serve("b", build="httpx")
    life.run(7)
    assert (first.end, second.end) == ("done", "done")
    assert "building the image of a" in first.says
    assert any("is already being built; waiting for it" in text for text in second.says)
    assert len(life.world.built) == 1
    rest(life)


def test_different_images_are_built_beside_each_other(life: Life) -> None:
    """In the time of one."""
    first, second = life.serve("a", build="httpx"), life.serve("b", build="flask")
    life.run(7)
    assert (first.end, second.end, len(life.world.built)) == ("done", "done", 2)
    rest(life)


def test_a_build_that_fails_tells_all_who_wait_and_is_tried_again_for_the_next(life: Life) -> None:
    """Each has an error of its own."""
    asked = [life.serve(app, build="broken-package") for app in ("a", "b")]
    life.run(7)
    assert all(each.end.startswith("BuildFailed: ") for each in asked)
    again = life.serve("a", build="broken-package")
    life.run(7)
    assert again.end.startswith("BuildFailed: ")
    assert len(life.world.built) == 2
    rest(life)


@pytest.mark.parametrize("after_s", [0.0, 7.0])
def test_code_of_a_package_that_fills_the_disk_is_killed(
    life: Life, monkeypatch: pytest.MonkeyPatch, after_s: float
) -> None:
    """The image is gone, and the error says why; a build of wheels alone goes on."""
    free = [KEEP_FREE]
    monkeypatch.setattr("flyted.daemon.images.venvs.disk_space", lambda _folder: (free[0], 1 << 40))
    asked, other = life.serve("a", build="source-package"), life.serve("b", build="httpx")
    life.run(after_s)
    free[0] -= 1
    life.run(15)
    assert asked.end.startswith("BuildFailed: the image's build was killed: less than 1024 MB of disk space were free")
    assert other.end == "done"
    assert len(images(life)) == 1
    free[0] += 1
    again = life.serve("a", build="source-package")
    life.run(20)
    assert again.end == "done"
    rest(life)


@pytest.mark.parametrize("fails", [False, True])
def test_a_look_for_unused_images_that_meets_a_build_follows_it(life: Life, fails: bool) -> None:
    """Also when another one begins meanwhile; what a killed build left is deleted then."""
    life.run(1)
    half(life, HALF)
    life.serve("a", build="broken-package" if fails else "httpx")
    life.run(2)
    life.running.unused.soon()
    life.serve("b", build="flask")
    life.run(4)
    assert HALF in images(life), "the second one runs"
    life.run(4)
    assert HALF not in images(life)
    rest(life)


def test_with_nothing_asked_no_pass_reads_the_folder_of_images(life: Life) -> None:
    """At a start, a deploy and a deletion it is asked for, and for the time of a build not."""
    up(life)
    life.run(100)
    half(life, HALF)
    life.request("a")
    life.run(300)
    assert HALF in images(life)
    life.call("delete", "a", keep_data=False)
    life.run(10)
    assert HALF not in images(life)
    rest(life)


def test_who_wants_an_image_that_is_being_removed_gets_a_new_one(life: Life) -> None:
    """The build follows the removal."""
    unused_environment(life)
    life.set_clock(KEPT_S + 1)
    life.world.job_s = 2.0
    life.running.unused.soon()
    life.run(1)
    assert len(life.running.images.removing) == 1
    asked = life.serve("a", build="httpx")
    life.run(1.5)
    assert (images(life), len(life.world.built)) == (set(), 1)
    life.run(20)
    assert (asked.end, len(life.world.built)) == ("done", 2)
    rest(life)


def test_a_build_that_cannot_begin_says_so_at_once(life: Life) -> None:
    """systemd does not answer: nobody waits until it does."""
    life.world.connect(bus=False)
    asked = life.serve("a", build="httpx")
    life.run(0.1)
    assert asked.end == "HostFailure: systemd does not answer"
    life.world.connect(bus=True)
    rest(life)


def test_a_daemon_that_ends_during_a_build_builds_it_again(life: Life) -> None:
    """What it left is complete or deleted."""
    life.serve("a", build="httpx")
    life.run(1)
    life.end(killed=True)
    life.start()
    asked = life.serve("a", build="httpx")
    life.run(10)
    assert asked.end == "done"
    rest(life)


def test_an_image_that_is_taken_while_a_pass_looks_is_not_removed(life: Life) -> None:
    """It was unused for a week; the pass read the apps before the deploy, and then waited for HAProxy."""
    unused_environment(life)
    up(life, "b", scaledown_after_s=100.0)
    life.set_clock(KEPT_S + 1)
    life.run(1)
    before = images(life)
    life.world.haproxy_s = 3.0
    life.running.unused.soon()
    life.run(1)
    asked = life.serve("a", build="httpx")
    life.run(20)
    life.world.haproxy_s = 0.01
    life.run(1)
    assert (asked.end, images(life), len(life.world.built)) == ("done", before, 1)
    rest(life)
