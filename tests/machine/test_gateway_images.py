"""Images that the stock `flyte` has built: what it says while they are built, and when they cannot be."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.companion_sdk import ABORTED, SHARE, Desk
from tests.machine.kit.environments import environment_for, install
from tests.machine.kit.pypi_flyte import FOLDER, PYTHON, SDK, flyte, prepare, python, refused, stock
from tests.machine.kit.users import alice, answer, by, give

APP = """
import flyte, flyte.app
env = flyte.app.AppEnvironment(
    name="{name}", command=["python3", "-m", "http.server", "8080"],
    image=flyte.Image.from_debian_base(python_version=(3, 11)).with_commands(["{command}"]),
)
"""
RUN = time.time_ns()
"""In the command of every image, so that it is not there yet."""


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> Iterator[None]:
    prepare()
    alice("sudo", "flytectl", "ca", "install")
    done = stock("flyte", "build", write("stock-base", ":"), "env", seconds=900)  # the layers below those of the tests
    assert done.returncode in {0, *ABORTED}, done.stderr
    yield
    for name in ("stock-words", "stock-slow", "stock-digest"):
        by("alice", "flytectl", "app", "delete", "--yes", "--data", name)


def write(name: str, command: str) -> str:
    """Write a file whose image runs this command; return its name in the folder of the stock CLI."""
    return give(f"stock/{name.replace('-', '_')}.py", APP.format(name=name, command=f"{command}; : {RUN}"))[6:]


@pytest.mark.parametrize(
    "command", ["deploy", *(pytest.param(each, marks=pytest.mark.long) for each in ("build", "serve"))]
)
def test_a_build_that_fails_says_at_which_command_and_its_last_lines(command: str) -> None:
    """Without the companion, in the error that the command ends with; and no app comes of it."""
    file = write("stock-words", f"echo one for {command}; echo the last one >&2; exit 7")
    said = refused(command, file, "env")
    assert "echo the last one >&2; exit 7" in said
    assert re.search(rf"exited with status 7 +one for {command} the last one", said), said
    assert re.search(r"all of its output: flyte get logs r[0-9a-f]{19}\b", said), said
    assert "stock-words" not in json.dumps(answer("app", "ls", "--all"))


def test_the_output_of_a_build_is_followed_in_another_terminal() -> None:
    """`flyte get logs RUN`, with the name that `flyte build` shows: its lines come while it runs, and are there after.

    Also as the SDK has them.
    """
    steps = [f"echo line {each} of the step; sleep 2" for each in range(8)]
    file = write("stock-slow", "; ".join(steps))
    with subprocess.Popen(command("build", file, "env"), stderr=subprocess.PIPE, text=True) as building:
        run, rest = name_of_run(building), threading.Thread(target=building.communicate)
        rest.start()
        shown = arrivals("get", "logs", run)
        rest.join(300)
    assert building.returncode == 0
    times = [when for when, line in shown if re.search(r"line \d of the step", line)]
    assert len(times) >= 8, shown
    assert times[-1] - times[0] > 5, "they came all at once"
    assert "line 7 of the step" in flyte("get", "logs", run, "--show-ts").stdout
    said = python(f"print([line for line in flyte.remote.Run.get(name='{run}').get_logs() if 'of the step' in line])")
    assert "line 0 of the step\\n" in said


def name_of_run(building: subprocess.Popen[str]) -> str:
    """The name that a `flyte build` says while it goes on."""
    assert building.stderr is not None
    for line in building.stderr:
        if found := re.search(r"/runs/(r[0-9a-f]{19})", line):
            return found[1]
    raise AssertionError("it named no run")


def arrivals(*words: str) -> list[tuple[float, str]]:
    """The lines of a `flyte …` to its end, each with the moment at which it came."""
    with subprocess.Popen(command(*words), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return [(time.monotonic(), line) for line in process.stdout]


def command(*words: str) -> list[str]:
    """A `flyte …` of alice's in the folder of the stock CLI, with nothing between its lines and the reader."""
    login = 'cd {} && export DO_NOT_TRACK=1 NO_COLOR=1 COLUMNS=200 PYTHONUNBUFFERED=1 && exec {} "$@"'
    flyte = PYTHON.with_name("flyte")
    return ["runuser", "-u", "alice", "--", "env", "-i", "HOME=/home/alice", "PATH=/usr/bin:/bin", "LANG=C.UTF-8",
            "sh", "-c", login.format(FOLDER, flyte), "sh", *words]  # fmt: skip


def test_an_image_has_a_digest_as_long_as_it_is_there() -> None:
    """`flyte build` shows it, an app is made of it, and it is flytectl's hash; without its files it is built again."""
    file = write("stock-digest", "echo digest")
    digest = digest_of("build", file)
    assert answer("image", "get", digest)["hash"] == digest
    assert digest_of("build", file) == digest
    flyte("deploy", file, "env")
    assert answer("app", "get", "stock-digest")["image"]["hash"] == digest
    assert re.sub(r"\s", "", flyte("get", "app", "stock-digest").stdout).count(f"@flyted:{digest}") == 1
    alice("flytectl", "app", "delete", "--yes", "--data", "stock-digest")
    Path("/var/lib/flyted/roots", f"{digest}.json").unlink()
    assert digest_of("build", file, "Build completed in") == digest
    flyte("deploy", file, "env")
    assert answer("app", "get", "stock-digest")["image"]["hash"] == digest


def digest_of(*words: str) -> str:
    """The digest that a `flyte build FILE` shows; further words are said, too."""
    done = flyte(*words[:2], "env")
    said = done.stdout + done.stderr
    assert all(each in said for each in words[2:]), said
    (found,) = set(re.findall(r"flyted\.localhost/flyte:[0-9a-f]+@flyted:([0-9a-f]{32})\b", said))
    return str(found)


def test_the_companion_shows_the_output_of_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    """In the same terminal, before the command says that it is done; of one that fails, too."""
    place = environment_for("companion")
    install(place, f"flyte=={SDK}", "msgpack")
    install(place, "--no-deps", *map(str, SHARE.glob("flyted-*.whl")))
    desk = Desk(FOLDER, place, capsys)
    said = desk.works(f"flyte build {write('stock-words', 'echo shown $((6*7)) at once; sleep 3')} env")
    assert said.index("  shown 42 at once") < said.index("Build completed in")
    said = desk.fails(f"flyte build {write('stock-words', 'echo shown $((6*8)); exit 3')} env")
    assert said.index("shown 48") < said.index("Error")
    assert "exited with status 3" in said
