"""Verbs of one app that meet: the newest wins, the client of a cancelled one gets an error, and nothing acts later."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine.kit.apps import serve, state, write
from tests.machine.kit.units import must, sh
from tests.machine.kit.users import alice, answer, by, curl, give, running, until
from tests.machine.test_failed_starts import HANGS

APP = "cancelled"
IMAGES = Path("/var/lib/flyted/images")
IN_FLIGHT_S = 16  # on a busy machine flytectl takes seconds, three times
BUILDS = """
import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name="cancelled", args=["python", "-m", "http.server", "8080"], port=8080, requires_auth=False,
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("waitress", "click!=0.{never_built}"),
    resources=flyte.Resources(cpu=1, memory="128Mi"),
)
"""


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    by("alice", "flytectl", "app", "delete", "--yes", "--data", APP)


def units() -> str:
    """The units of the app, of any revision."""
    words = ["systemctl", "list-units", "--all", "--plain", "--no-legend", f"flyted-app-{APP}-*"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def cancelled(process: subprocess.Popen[str]) -> None:
    """Who waits for the deploy is told what became of it."""
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 8, said
    assert f"the deploy of app '{APP}' was cancelled: the app was stopped or deleted" in said


def gone() -> None:
    """Nothing is left of the app."""
    assert units() == ""
    assert APP not in alice("flytectl", "app", "ls", "--all").stdout


def test_a_first_start_is_cancelled_by_a_deletion() -> None:
    """The start would go on for minutes; the deletion does not wait for that, and nothing is left."""
    with running("flytectl", "serve", write(APP, at_start=HANGS)) as process:
        until(lambda: ".service" in units())
        status, body = curl(f"https://{APP}.apps.localhost")
        assert (status, "starting for the first time" in body) == (503, True)
        alice("flytectl", "app", "delete", "--yes", "--data", APP)
        cancelled(process)
    gone()
    assert curl(f"https://{APP}.apps.localhost")[0] == 421


def builds() -> list[str]:
    """The units that build an image now."""
    words = ("systemctl", "list-units", "--state=active", "--plain", "--no-legend", "flyted-build-*")
    return [line.split()[0] for line in sh(*words).splitlines() if "removal" not in line]


@contextmanager
def held_build() -> Iterator[None]:
    """A build that has begun, and stands still, unless it is ended, until the end of the block."""
    until(lambda: len(builds()) == 1)
    (unit,) = builds()
    must("systemctl", "kill", "--signal=STOP", unit)
    try:
        yield
    finally:
        sh("systemctl", "kill", "--signal=CONT", unit)


def test_a_build_is_cancelled_by_a_deletion() -> None:
    """Before there is any revision: its unit is stopped, and neither an image nor an app comes of it."""
    file = give("cancelled.py", BUILDS.replace("{never_built}", str(time.time_ns())))
    before = sorted(IMAGES.glob("[0-9a-f]*"))
    with running("flytectl", "serve", file) as process, held_build():
        alice("flytectl", "app", "delete", "--yes", "--data", APP)
        cancelled(process)
        gone()
        until(lambda: not builds())
    until(lambda: sorted(IMAGES.glob("[0-9a-f]*")) == before)
    gone()


def test_a_new_revision_is_cancelled_by_a_stop() -> None:
    """Both revisions end; started again it is the one before."""
    url = serve(APP, version="old")
    with running("flytectl", "serve", write(APP, at_start=HANGS, version="new")) as process:
        until(lambda: "-r2-0.service" in units())
        alice("flytectl", "app", "stop", APP)
        cancelled(process)
    assert (state(APP), units()) == ("stopped", "")
    assert answer("app", "get", APP)["last_failure"]["reason"] == "its deploy was cancelled"
    assert curl(url)[0] == 503
    alice("flytectl", "app", "start", APP)
    assert "old" in curl(url)[1]


def test_a_deletion_in_the_middle_of_a_start_by_hand() -> None:
    """`app start` of an app that was stopped, and does not come up this time."""
    marker = Path("/etc/cancelled")  # which apps see, read-only like the rest of the system
    serve(APP, at_start=f"if os.path.exists('{marker}'): time.sleep(3600)")
    alice("flytectl", "app", "stop", APP)
    marker.touch()
    try:
        with running("flytectl", "app", "start", APP) as process:
            until(lambda: "activating" in units())
            alice("flytectl", "app", "delete", "--yes", "--data", APP)
            cancelled(process)
    finally:
        marker.unlink()
    gone()


def test_the_next_deploy_is_not_held_up() -> None:
    """Cancelled and served again, four times: the last one serves."""
    for round_ in range(4):
        with running("flytectl", "serve", write(APP, at_start=HANGS, version=str(round_))) as process:
            until(lambda: ".service" in units())
            alice("flytectl", "app", "delete", "--yes", "--data", APP)
            cancelled(process)
    url = serve(APP, version="at last")
    assert "at last" in curl(url)[1]


@contextmanager
def in_flight(url: str, seconds: int) -> Iterator[subprocess.Popen[str]]:
    """A request that a stop of the app has to wait for."""
    with running("curl", "-sS", "--max-time", "120", f"{url}/slow?s={seconds}") as request:
        until(lambda: answer("app", "get", APP)["requests"]["in_flight"] == 1)
        yield request


def keeps_its_files(url: str) -> None:
    """What the app wrote before is there; and still after it was stopped and started by hand."""
    assert curl(f"{url}/kept") == (200, '"mine"')
    alice("flytectl", "app", "stop", APP)
    alice("flytectl", "app", "start", APP)
    assert curl(f"{url}/kept") == (200, '"mine"')


KEEPS = """
from pathlib import Path
NOTE = Path(os.environ["STATE_DIRECTORY"], "note")
@app.get("/keep")
async def keep():
    NOTE.write_text("mine")
@app.get("/kept")
async def kept():
    return NOTE.read_text()
"""


def test_a_deletion_that_was_given_up_erases_nothing_later() -> None:
    """Ctrl-C while it waits for a request; then the app is served, stopped and started as ever, and has its files."""
    url = serve(APP, at_start=KEEPS)
    curl(f"{url}/keep")
    with in_flight(url, IN_FLIGHT_S) as request:
        with running("flytectl", "app", "delete", "--yes", "--data", APP) as deletion:
            until(lambda: answer("app", "get", APP)["wanted"] == "stopped")
            deletion.send_signal(signal.SIGINT)
            said = deletion.communicate(timeout=60)[0]
        assert deletion.returncode == 130
        assert "the app is stopped but not deleted" in said
        assert serve(APP, at_start=KEEPS) == url
        assert request.wait(60) == 0
    keeps_its_files(url)


def test_who_serves_an_app_calls_its_deletion_off() -> None:
    """In another terminal: the deletion says that it did nothing more."""
    url = serve(APP, at_start=KEEPS)
    curl(f"{url}/keep")
    with (
        in_flight(url, IN_FLIGHT_S) as request,
        running("flytectl", "app", "delete", "--yes", "--data", APP) as deletion,
    ):
        until(lambda: answer("app", "get", APP)["wanted"] == "stopped")
        alice("flytectl", "app", "start", APP)
        said = deletion.communicate(timeout=60)[0]
        assert deletion.returncode == 5, said
        assert "it was served or started again meanwhile" in said
        assert request.wait(60) == 0
    keeps_its_files(url)
