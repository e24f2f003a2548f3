"""kill -9 in every step on the way of an image: of flyted, of a unit's main process, of all processes of a unit."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import hub as hubs
from tests.machine.kit import small
from tests.machine.kit.hub import HOST, PLATFORM, Hub, page, tar_of
from tests.machine.kit.layers import processes
from tests.machine.kit.units import must, sh
from tests.machine.kit.users import alice, by, curl, forget_apps, forget_secrets, give, lines_of, running, until
from tests.machine.test_root_images import STATE, layers
from tests.registry.server import LAYER

NAME = "killed"
ARCH = PLATFORM.partition("/")[2]
RUN = {"Entrypoint": ["/bin/httpd", "-f"], "Cmd": ["-p", "8080", "-h", "/www"], "User": "root"}
BIG = 48 << 20
"""Bytes that take a step long enough to be met in it."""
NUMBERS = itertools.count(time.time_ns())
"""Nothing of an image is there from an earlier test."""
STEPS = {
    "resolve": ("looking up ", "flyted-pull-"),
    "pull": ("pulling ", "flyted-pull-"),
    "unpack": (": unpack ", "flyted-layer-"),
    "debian": (": install Debian ", "flyted-layer-"),
    "copy": (": copy 'big' ", "flyted-layer-"),
    "run": (": RUN echo ", "flyted-layer-"),
    "environment": ("building the image of ", "flyted-build-"),
    "removal": ("", "flyted-layer-removal"),
}
"""The line by which a step is told, and how the name of its unit begins."""
PRUNED = ("debian", "removal")
"""Steps before which all unused images go: the others have a content of their own in each test."""
WHOM = ("flyted", "main", "all")
CHEAP = {("resolve", "main"), ("copy", "all"), ("run", "flyted")}
CELLS = [
    pytest.param(step, whom, marks=[] if (step, whom) in CHEAP else [pytest.mark.long])
    for step in STEPS
    for whom in WHOM
]
APP = """
import flyte, flyte.app
env = flyte.app.AppEnvironment(
    name="killed", requires_auth=False, port=8080, command={command}, image={image}
)
"""
SERVER = ("python", "-m", "http.server", "8080")


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """A registry."""
    with hubs.serving() as made, hubs.trusted(made):
        alice("flytectl", "secret", "create", "hub-login", "-", "--replace", typed=hubs.login())
        yield made
        forget_apps(NAME)
        forget_secrets("hub-login")


def described(hub: Hub, step: str) -> str:
    """The file of an app on whose image's way the step is, with a content of its own."""
    number = next(NUMBERS)
    if step in ("resolve", "pull", "unpack"):
        big = tar_of((f"big-{number}", os.urandom(BIG)))
        hub.image(f"t{number}", [(page(str(number)), LAYER), (big, LAYER)], ARCH, run=RUN)
        return give("kills/app.py", APP.format(command=[], image=repr(f"{HOST}/team/app:t{number}")))
    if step in ("debian", "environment"):
        image = "flyte.Image.from_debian_base(python_version=(3, 11))"
        more = (
            ".with_commands(['true'])" if step == "debian" else f".with_pip_packages('waitress', 'click!=0.{number}')"
        )
        return give("kills/app.py", APP.format(command=list(SERVER), image=image + more))
    big_file = Path(small.BUSYBOX).with_name("big")
    lines = {
        "copy": ("COPY big /big",),
        "run": (f"RUN echo {number} >/www/index.html; /bin/busybox sleep 3",),
        "removal": (f"RUN mkdir /m; i=0; while [ $i -lt 20000 ]; do : >/m/{number}-$i; i=$((i+1)); done",),
    }[step]
    file = small.app(NAME, *lines, "RUN echo here >>/www/index.html")
    big_file.write_bytes(os.urandom(BIG))
    return file


@contextlib.contextmanager
def caught(client: subprocess.Popen[str], said: list[str], step: str) -> Iterator[str]:
    """The unit of the step, which has begun and stands still; at the end it goes on if it is still there."""
    line, prefix = STEPS[step]
    until(lambda: any(line in each for each in said) or client.poll() is not None or not line, 300)
    deadline = time.monotonic() + 20
    while not (found := [unit for unit in units() if unit.startswith(prefix)]):
        assert time.monotonic() < deadline, said
    must("systemctl", "kill", "--signal=STOP", found[0])
    try:
        yield found[0]
    finally:
        sh("systemctl", "kill", "--signal=CONT", found[0])


def units() -> list[str]:
    """The units of steps that run."""
    words = ("systemctl", "list-units", "--state=active,activating,deactivating", "--plain", "--no-legend")
    return [line.split()[0] for line in sh(*words, "flyted-layer-*", "flyted-pull-*", "flyted-build-*").splitlines()]


def kill(whom: str, unit: str) -> None:
    """Kill flyted, the main process of a unit, or all of it."""
    if whom == "flyted":
        os.kill(int(sh("systemctl", "show", "-P", "MainPID", "flyted.service")), signal.SIGKILL)
    else:
        must("systemctl", "kill", "--signal=KILL", f"--kill-whom={whom}", unit)


def nothing_half() -> None:
    """Each layer has folder and record, or neither; each environment is whole; nothing is mounted or runs."""
    until(lambda: units() == [], 120)
    until(lambda: {path.name for path in (STATE / "layers").iterdir()} == layers())
    for layer in layers():
        assert [each.name for each in (STATE / "layers" / layer).iterdir()] == ["diff"]
    for image in (STATE / "images").glob("[0-9a-f]*"):
        until((image / "image.json").exists)
    assert processes() == []
    mounted = sh("findmnt", "-rn", "-o", "TARGET").splitlines()
    assert not [each for each in mounted if each.startswith("/var/lib/flyted/layers/")]


@pytest.mark.parametrize(("step", "whom"), CELLS)
def test_whoever_is_killed_in_a_step(hub: Hub, step: str, whom: str) -> None:
    """Nothing half made counts as whole, and the same serve works; then nothing half made is left."""
    forget_apps(NAME)
    if step in PRUNED:
        alice("flytectl", "image", "prune", "--yes")
    file = described(hub, step)
    words = ["flytectl", "serve", file]
    if step == "removal":
        alice(*words)
        forget_apps(NAME)
        words = ["flytectl", "image", "prune", "--yes"]
    with running(*words) as client:
        said = lines_of(client)
        with caught(client, said, step) as unit:
            kill(whom, unit)
            assert client.wait(60) in ({7} if whom == "flyted" else {8, 9}), said
    until(lambda: by("alice", "flytectl", "app", "ls").returncode == 0)
    layer = unit.removeprefix("flyted-layer-").removesuffix(".service")
    assert layer not in layers()
    if step == "removal":
        alice(*words)
        nothing_half()
    alice("flytectl", "serve", file)
    assert curl(f"https://{NAME}.apps.localhost/")[0] == 200
    nothing_half()
