"""``flytectl image prune`` beside a build: nothing of the build is removed, whichever flyted began it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import small
from tests.machine.kit.units import must, sh
from tests.machine.kit.users import alice, by, curl, forget_apps, lines_of, running, until
from tests.machine.test_interrupted import units
from tests.machine.test_root_images import STATE, layers

NAME = "pruned-beside"
RUN = time.time_ns()


@pytest.fixture(autouse=True)
def before() -> Iterator[set[str]]:
    """The layers on the disk that are not of the build: those that apps use."""
    forget_apps(NAME)
    alice("flytectl", "image", "prune", "--yes")
    until(lambda: "removal" not in sh("systemctl", "list-units", "--no-legend", "flyted-*"))
    yield on_disk()
    forget_apps(NAME)


def on_disk() -> set[str]:
    """All layers, whole or not."""
    return {path.name for path in (STATE / "layers").iterdir()}


def there_until_the_end(made: set[str]) -> None:
    """Look at the layers as long as the unit of the step runs."""
    while True:
        found = on_disk()
        if "flyted-layer-" not in units():
            return
        assert made <= found
        time.sleep(0.1)


def app(kind: str) -> str:
    """An app whose image has two layers that are quick to make, and a step of 15 seconds that reads them."""
    first = f"RUN echo {RUN} {kind} >/www/index.html"
    return small.app(NAME, first, "RUN echo begun; /bin/busybox sleep 15; /bin/busybox test -s /www/index.html")


def in_the_step(said: list[str]) -> set[str]:
    """The layers on the disk, once the long step has begun: also the one that it makes."""
    until(lambda: "  | begun\n" in said or any("flytectl: " in line for line in said), 90)
    assert "flyted-layer-" in units(), said
    return on_disk()


def restart(how: str) -> None:
    """flyted ends by an operator's command or by a signal, and is there again."""
    if how == "killed":
        os.kill(int(sh("systemctl", "show", "-P", "MainPID", "flyted.service")), signal.SIGKILL)
        until(lambda: by("alice", "flytectl", "app", "ls").returncode == 0)
    else:
        must("systemctl", "restart", "flyted.service")


@pytest.mark.long
def test_beside_a_build_of_its_own(before: set[str]) -> None:
    """It waits for the build, and what the app then has is not unused."""
    with running("flytectl", "serve", app("own")) as client:
        made = in_the_step(lines_of(client)) - before
        assert len(made) > 4
        with running("flytectl", "image", "prune", "--yes") as pruning:
            there_until_the_end(made)
            assert pruning.wait(60) == 0
        assert client.wait(120) == 0
    assert made <= layers()
    assert curl(f"https://{NAME}.apps.localhost/")[1].strip() == f"{RUN} own"


@pytest.mark.parametrize("how", ["killed", pytest.param("restarted", marks=pytest.mark.long)])
def test_beside_a_build_that_an_earlier_flyted_began(how: str, before: set[str]) -> None:
    """As long as the unit runs nothing is removed; then it is unused, since nobody waits for it any more."""
    with running("flytectl", "serve", app(f"{how} alone")) as client:
        made = in_the_step(lines_of(client)) - before
        below = made & layers()
        assert len(below) > 3
        restart(how)
        assert client.wait(60) != 0
    with running("flytectl", "image", "prune", "--yes") as pruning:
        said = lines_of(pruning)
        until(lambda: any("was begun before flyted was restarted" in line for line in said))
        assert made <= on_disk()
        there_until_the_end(below)  # the step's own layer it removes itself: nobody reads what it says
        assert pruning.wait(60) == 0
    assert not made & layers(), "nothing uses them"


@pytest.mark.long
@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_who_serves_again_gets_what_the_earlier_build_had_made(how: str, before: set[str]) -> None:
    """With prunes all the time: the layers below the step stay, and the app serves."""
    file = app(f"{how} again")
    with running("flytectl", "serve", file) as client:
        below = (in_the_step(lines_of(client)) - before) & layers()
        assert len(below) > 3
        inodes = {name: Path(STATE, "layers", name, "diff").stat().st_ino for name in below}
        restart(how)
        assert client.wait(60) != 0
    with running("flytectl", "serve", file) as client:
        lines_of(client)
        with running("sh", "-c", "while :; do flytectl image prune --yes; done"):
            assert client.wait(180) == 0
    assert inodes == {name: Path(STATE, "layers", name, "diff").stat().st_ino for name in below}, (
        "they were made again"
    )
    assert curl(f"https://{NAME}.apps.localhost/")[1].strip() == f"{RUN} {how} again"
    alice("flytectl", "image", "prune", "--yes")
    assert below <= layers(), "an app uses them"
