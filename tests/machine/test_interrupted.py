"""Ctrl-C, and other ends of who waits, while an image is built: its unit ends, and finished steps are kept."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.machine.kit import small
from tests.machine.kit.units import sh
from tests.machine.kit.users import alice, answer, by, curl, forget_apps, give, lines_of, running, until
from tests.machine.test_root_images import STATE, layers

SOON_S = 10
"""Within which a unit has ended: a step of an hour would not."""
NAME = "interrupted"
RUN = time.time_ns()
ENDLESS = f"RUN echo begun; /bin/busybox sleep 3{RUN % 1000:03d}"
FIRST = f"RUN echo {RUN} >/www/index.html"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    forget_apps(NAME)
    assert units() == ""


def units() -> str:
    """The units of steps, pulls and builds that run."""
    words = ("systemctl", "list-units", "--state=active,activating,deactivating", "--plain", "--no-legend")
    lines = sh(*words, "flyted-layer-*", "flyted-pull-*", "flyted-build-*").splitlines()
    return "\n".join(line for line in lines if "removal" not in line)


def in_the_step(said: list[str]) -> None:
    """The step that does not end has begun."""
    until(lambda: "  | begun\n" in said or any("flytectl: " in line for line in said), 90)
    assert not any("flytectl: " in line for line in said), said
    assert "flyted-layer-" in units()


def ended() -> None:
    """No unit is left, no process of a step, and no folder that is not a whole layer."""
    until(lambda: units() == "", SOON_S)
    assert subprocess.run(["pgrep", "-f", ENDLESS.split("; ")[1]], check=False, capture_output=True).returncode == 1
    until(lambda: {path.name for path in (STATE / "layers").iterdir()} == layers())
    assert "/var/lib/flyted" not in sh("findmnt", "-n", "-o", "TARGET", "-t", "overlay")


@pytest.mark.parametrize("command", ["serve", "image build"])
def test_ctrl_c_in_a_step_ends_it(command: str) -> None:
    """It is said what happened; the next serve takes the finished steps."""
    file, before = small.app(NAME, FIRST + f"; : {command}", ENDLESS), layers()
    with running("flytectl", *command.split(), file) as client:
        said = lines_of(client)
        in_the_step(said)
        client.send_signal(signal.SIGINT)
        assert client.wait(SOON_S) == 130
        ended()
    words = {"serve": "this deploy is cancelled; the finished steps of its image are kept",
             "image build": "the build is cancelled; its finished steps are kept"}  # fmt: skip
    until(lambda: said[-1] == f"interrupted: {words[command]}\n")
    kept = layers() - before
    assert kept
    assert by("alice", "flytectl", "app", "get", NAME).returncode == 4
    alice("flytectl", "serve", small.app(NAME, FIRST + f"; : {command}"))
    assert layers() - before == kept
    assert curl(f"https://{NAME}.apps.localhost/")[1].strip() == str(RUN)


def test_what_serves_goes_on() -> None:
    """A new revision is given up in its build: the old one serves, and nothing of another one is listed."""
    alice("flytectl", "serve", small.app(NAME, FIRST))
    with running("flytectl", "serve", small.app(NAME, FIRST, ENDLESS)) as client:
        in_the_step(lines_of(client))
        client.send_signal(signal.SIGKILL)  # as a terminal that is closed, or a lost connection
        ended()
    found = answer("app", "get", NAME)
    assert (found["revision"], found["state"], found["last_failure"]) == (1, "running", None)
    assert curl(f"https://{NAME}.apps.localhost/")[1].strip() == str(RUN)


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_a_stop_or_deletion_ends_the_step(verb: str) -> None:
    """It calls the deploy off."""
    with running("flytectl", "serve", small.app(NAME, FIRST, ENDLESS)) as client:
        said = lines_of(client)
        in_the_step(said)
        alice("flytectl", "app", verb, *(["--yes"] if verb == "delete" else []), NAME)
        assert client.wait(60) == 8
        ended()
        until(lambda: any("was cancelled: the app was stopped or deleted" in line for line in said))


def test_somebody_else_who_waits_keeps_it_alive() -> None:
    """The first who leaves does not end it, the last one does."""
    with running("flytectl", "serve", small.app(NAME, FIRST, ENDLESS)) as first:
        in_the_step(lines_of(first))
        unit = units().split()[0]
        other = small.app(f"{NAME}-too", FIRST, ENDLESS)
        with running("flytectl", "serve", other) as second:
            said = lines_of(second)
            until(lambda: any("is already being built; waiting for it" in line for line in said))
            first.send_signal(signal.SIGINT)
            assert first.wait(SOON_S) == 130
            time.sleep(2)
            assert units().split()[0] == unit
            second.send_signal(signal.SIGINT)
            assert second.wait(SOON_S) == 130
        ended()


def test_ctrl_c_in_the_build_of_a_python_environment() -> None:
    """What is half installed goes; the same file can be served at once."""
    images = STATE / "images"
    file = give("small/slow.py", SLOW.replace("{never_built}", str(RUN)))
    before = {path.name for path in images.glob("[0-9a-f]*")}
    with running("flytectl", "serve", file) as client:
        until(lambda: "flyted-build-" in units(), 60)
        client.send_signal(signal.SIGINT)
        assert client.wait(SOON_S) == 130
        until(lambda: units() == "", SOON_S)
    until(lambda: {path.name for path in images.glob("[0-9a-f]*")} == before)
    alice("flytectl", "serve", file)
    assert curl(f"https://{NAME}.apps.localhost/")[0] == 200


SLOW = """
import flyte, flyte.app
env = flyte.app.AppEnvironment(
    name="interrupted", args=["python", "-m", "http.server", "8080"], port=8080, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("waitress", "click!=0.{never_built}"),
)
"""


def test_a_restart_of_flyted_does_not_end_a_step() -> None:
    """Its clients are gone, and none of them has left; the next serve waits for the unit, and its Ctrl-C ends it."""
    file = small.app(NAME, FIRST, ENDLESS)
    with running("flytectl", "serve", file) as client:
        in_the_step(lines_of(client))
        unit = units().split()[0]
        sh("systemctl", "restart", "flyted.service")
        assert client.wait(60) == 7
    assert units().split()[0] == unit
    with running("flytectl", "serve", file) as client:
        said = lines_of(client)
        until(lambda: any(ENDLESS in line for line in said), 60)
        time.sleep(1)
        assert units().split()[0] == unit
        client.send_signal(signal.SIGINT)
        assert client.wait(SOON_S) == 130
        ended()


def test_the_journal_says_who_left() -> None:
    """And not that the deploy was done."""
    with running("flytectl", "serve", small.app(NAME, FIRST, ENDLESS)) as client:
        in_the_step(lines_of(client))
        client.send_signal(signal.SIGINT)
        assert client.wait(SOON_S) == 130
    until(lambda: f"app serve {NAME}: client-left" in last())


def last() -> str:
    entry = sh("journalctl", "-q", "-n", "1", "-o", "json", "FLYTED_VERB=app.serve")
    return str(json.loads(entry)["MESSAGE"]) if entry else ""
