"""Images of layers, as the real SDK describes them: served by flytectl, built step by step, run in their own root."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.machine.kit.units import must, sh
from tests.machine.kit.users import (
    Done,
    alice,
    answer,
    by,
    curl,
    forget_apps,
    forget_secrets,
    give,
    lines_of,
    refused,
    running,
    until,
)

CANARY = "CANARY-of-a-layer-7e11"
RUN = time.time_ns()
"""In a command of every image: layers of an earlier run are those before it."""
STATE = Path("/var/lib/flyted")
APP = """
import subprocess
from pathlib import Path
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
def look():
    said = subprocess.run(["jq", "-n", ".a = 7 | .a"], capture_output=True, text=True)
    print("asked", flush=True)
    return {{"jq": said.stdout.strip(), "made": Path("/opt/made").read_text().strip()}}

env = FastAPIAppEnvironment(
    name="{name}", app=app, requires_auth=False,
    image=(
        flyte.Image.from_debian_base(python_version=(3, 11))
        .with_apt_packages("jq")
        .with_pip_packages("fastapi", "uvicorn")
        .with_commands([{commands}]){more}
    ),
)
"""


def file(name: str, *commands: str, secret: str = "") -> str:
    """An app of alice's, whose image runs these commands in the end, the last ones with a secret."""
    more = f".with_commands({list(commands)}, secret_mounts=[flyte.Secret({secret!r}, as_env_var={secret!r})])"
    first = (f"echo made > /opt/made; : {RUN}", *(() if secret else commands))
    text = APP.format(name=name, commands=", ".join(map(repr, first)), more=more if secret else "")
    return give(f"rooted/{name.replace('-', '_')}.py", text)


def serve(name: str, *commands: str, secret: str = "") -> Done:
    return by("alice", "flytectl", "serve", file(name, *commands, secret=secret))


def layers() -> set[str]:
    """The layers that have a record."""
    return {path.stem for path in (STATE / "roots/layers").glob("*.json")}


def images() -> set[str]:
    """The root images that are recorded."""
    return {path.stem for path in (STATE / "roots").glob("*.json")}


def image_record(digest: str) -> dict[str, Any]:
    return dict(json.loads((STATE / "roots" / f"{digest}.json").read_text()))


def layers_of(image: dict[str, Any]) -> list[str]:
    """The layers of an image, lowest first."""
    return list(image_record(image["hash"])["layers"])


def image_of(name: str) -> dict[str, Any]:
    return dict(answer("app", "get", name)["image"])


@pytest.fixture(scope="module")
def first() -> Iterator[str]:
    """What serving the first app said."""
    done = serve("layered-one")
    assert done.returncode == 0, done.stdout + done.stderr
    yield done.stdout + done.stderr
    forget_apps("layered-")


@pytest.mark.serves("from_debian_base", "with_apt_packages", "with_commands")
def test_an_app_with_apt_packages_and_commands_is_served(first: str) -> None:
    """Each step is shown, and what was taken in place of a base whose registry does not answer."""
    assert re.search(r"step \d+/\d+: echo made > /opt/made", first), first
    made = image_record(image_of("layered-one")["hash"])["layers"]
    shown = [json.loads((STATE / f"roots/layers/{layer}.json").read_text())["show"] for layer in made]
    assert "apt-get install jq" in shown
    if "install Debian bookworm" in shown:
        assert "was not pulled: a Debian is installed in its place" in first
    status, body = curl("https://layered-one.apps.localhost/")
    assert status == 200, body
    found = json.loads(body)
    assert (found["jq"], found["made"]) == ("7", "made")
    assert image_of("layered-one")["python"] == "3.11"


def test_it_is_listed_with_its_layers(first: str) -> None:
    """With what they take of the disk, and who uses it."""
    made = image_of("layered-one")
    entry = answer("image", "get", made["hash"][:12])
    assert entry in answer("image", "ls")["images"]
    assert (entry["hash"], entry["python"], entry["used_by"]) == (made["hash"], "3.11", ["layered-one"])
    assert "apt-get install jq" in [layer["source"] for layer in entry["layers"]]
    folders = [str(STATE / "layers" / each) for each in layers_of(made)]
    disk = int(sh("du", "-cs", "--block-size=1", *folders).splitlines()[-1].split()[0])
    assert 0.9 * disk < entry["bytes"] < 1.1 * disk


def test_it_wakes_and_logs(first: str) -> None:
    """Sleep, a request, its line in the log; nothing of a build is left but its layers."""
    alice("flytectl", "app", "sleep", "layered-one")
    until(lambda: curl("https://layered-one.apps.localhost/")[0] == 200)
    assert "asked" in alice("flytectl", "logs", "layered-one").stdout
    until(lambda: sh("systemctl", "list-units", "--all", "--no-legend", "flyted-layer-*", "flyted-pull-*") == "")
    for path in (STATE / "layers").iterdir():
        assert [each.name for each in path.iterdir()] == ["diff"], path
    assert {path.name for path in (STATE / "layers").iterdir()} >= layers()


def test_an_image_that_begins_alike_takes_its_last_step_only(first: str) -> None:
    """Two apps at once: both say the step, it is done once, and their images are one."""
    before = layers()
    with ExitStack() as stack:
        names = ("layered-two", "layered-three")
        clients = [
            stack.enter_context(running("flytectl", "serve", file(name, "echo two >/opt/two"))) for name in names
        ]
        said = [lines_of(client) for client in clients]
        assert [client.wait(300) for client in clients] == [0, 0], said
    assert len(layers() - before) == 1
    steps = [line for lines in said for line in lines if re.match(r"step \d+/\d+: ", line)]
    assert {line.partition(": ")[2].strip() for line in steps} == {"echo two >/opt/two"}, said
    assert len({image_of(name)["hash"] for name in names}) == 1


def test_a_step_that_fails_says_its_last_lines(first: str) -> None:
    """The steps before it stay; the app is not there."""
    before = layers()
    done = serve("layered-four", "echo four >/opt/four", "echo to the user; false")
    assert done.returncode == 8, done.stderr
    assert re.search(
        r"flytectl: layer 3 of the image: echo to the user; false: exited with status 1\n +to the user", done.stderr
    )
    assert len(layers() - before) == 1
    assert by("alice", "flytectl", "app", "get", "layered-four").returncode == 4


@pytest.mark.parametrize("again", [False, True])
def test_a_build_survives_a_killed_flyted(first: str, again: bool) -> None:
    """Served again while the step's unit still runs, or after that: the step is done again, from its beginning."""
    step = f"sleep {10 + again}; cat /opt/five 2>/dev/null; echo five >/opt/five"
    with running("flytectl", "serve", file("layered-five", step)) as client:
        until(lambda: sh("systemctl", "list-units", "--no-legend", "flyted-layer-*") != "", seconds=60)
        os.kill(int(sh("systemctl", "show", "-P", "MainPID", "flyted.service")), signal.SIGKILL)
        assert client.wait(60) != 0
    until(lambda: sh("systemctl", "is-active", "flyted.service") == "active")
    if again:
        until(lambda: sh("systemctl", "list-units", "--no-legend", "flyted-layer-*") == "", seconds=60)
    done = serve("layered-five", step)
    assert done.returncode == 0, done.stdout + done.stderr
    assert curl("https://layered-five.apps.localhost/")[0] == 200


def test_secrets_of_a_step_are_in_no_layer(first: str) -> None:
    """They are there as a variable, and in neither layer, record, journal nor what the client is shown."""
    alice("flytectl", "secret", "create", "LAYERED_TOKEN", "-", "--replace", typed=CANARY)
    try:
        step = f"test ${{#LAYERED_TOKEN}} = {len(CANARY)} && echo it is $LAYERED_TOKEN"
        done = serve("layered-six", step, secret="LAYERED_TOKEN")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "it is " in done.stdout + done.stderr
        assert CANARY not in done.stdout + done.stderr
        for folder in ("layers", "roots"):
            assert sh("grep", "-rlF", CANARY, str(STATE / folder)) == ""
        assert CANARY not in sh("journalctl", "-q", "-o", "export", "--since=-10min")
    finally:
        forget_secrets("LAYERED_TOKEN")


def test_what_a_program_that_needs_root_would_need_is_refused_before_a_build() -> None:
    """With what to write instead; nothing is made."""
    before = layers()
    text = APP.replace("requires_auth=False,", 'requires_auth=False, command=["gosu", "x"], port=8080,')
    made = give("rooted/seven.py", text.format(name="layered-seven", commands="'echo seven >/opt/seven'", more=""))
    assert "needs root" in refused("flytectl", "serve", made, status=2)
    assert layers() == before


def test_unused_layers_are_removed(first: str) -> None:
    """With their images, a week after their app is gone; what others share stays."""
    for name in ("two", "three", "five", "six"):
        forget_apps(f"layered-{name}")
    used = set(image_record(image_of("layered-one")["hash"])["layers"])
    assert layers() >= used  # equal when this runs again
    notes = STATE / "unused-images.json"
    until(notes.exists)
    must("systemctl", "stop", "flyted.service", "flyted.socket")
    notes.write_text(json.dumps(dict.fromkeys(layers() | images() | {"pulled"}, 1.0)))
    must("systemctl", "start", "flyted.socket", "flyted.service")
    until(lambda: layers() == used, seconds=180)
    until(lambda: {path.name for path in (STATE / "layers").iterdir()} == used, seconds=180)  # after uv's cache
    assert images() == {image_of("layered-one")["hash"]}
    until(lambda: not (STATE / "blobs").exists())
    assert curl("https://layered-one.apps.localhost/")[0] == 200
