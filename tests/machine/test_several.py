"""A file with several environments: served in the order of ``depends_on``, and what a failure among them means."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.machine.kit.users import alice, answer, by, curl, everything, give, refused, serving

HEAD = """
import os
import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

IMAGE = flyte.Image.from_debian_base(python_version=(3, 12)).with_pip_packages("fastapi", "uvicorn")

def make(name, *depends_on):
    app = FastAPI()
    app.get("/")(lambda: name)
    if os.environ.get("BREAKS") == name and os.environ.get("NOTIFY_SOCKET"):
        raise RuntimeError("broken on purpose")
    return FastAPIAppEnvironment(
        name=name, app=app, image=IMAGE, requires_auth=False, depends_on=list(depends_on), env_vars=VARIABLES[name]
    )
"""
# the file's order is not the order of depends_on
SEVERAL = """
several_lone = make("several-lone")
several_base = make("several-base")
several_middle = make("several-middle", several_base)
first_in_the_file, several_top = None, make("several-top", several_middle, several_base)
"""
NAMES = ["several-lone", "several-base", "several-middle", "several-top"]
ORDER = ["several-base", "several-middle", "several-top"]


def file(body: str = SEVERAL, *, breaks: str = "") -> str:
    """Alice's file; the app named ``breaks`` raises when it starts, on the server only."""
    variables = {name: {"BREAKS": breaks} if name == breaks else {} for name in NAMES}
    return give("several.py", f"VARIABLES = {variables!r}\n{HEAD}{body}")


@pytest.fixture(autouse=True)
def _none_left() -> Iterator[None]:
    yield
    for app in present():
        alice("flytectl", "app", "delete", "--yes", "--data", app)


def present() -> list[str]:
    """The apps of these tests that the daemon knows."""
    return sorted(a["name"] for a in answer("app", "ls")["apps"] if a["name"].startswith("several-"))


def when(name: str, happened: str) -> int:
    """A moment of an app's service in µs, by systemd's clock."""
    unit = f"flyted-app-{name}-r1-0.service"
    shown = subprocess.run(
        ["systemctl", "show", "--value", f"--property={happened}", unit], capture_output=True, text=True, check=True
    )
    return int(shown.stdout)


def test_dependencies_serve_before_what_needs_them_starts() -> None:
    """All of the file; each is ready before the next is begun, as systemd saw it; a URL each, in that order."""
    done = alice(*serving(file()))
    urls = done.stdout.split()
    names = [re.sub(r"^https://([^.]+)\..*", r"\1", url) for url in urls]
    assert sorted(names) == sorted(NAMES)
    assert [name for name in names if name in ORDER] == ORDER
    assert re.findall(r"starting (\S+) \(revision 1\)", done.stderr) == names
    for first, then in itertools.pairwise(names):
        assert 0 < when(first, "ActiveEnterTimestampMonotonic") < when(then, "InactiveExitTimestampMonotonic")
    for name, url in zip(names, urls, strict=True):
        assert curl(url) == (200, f'"{name}"')


@pytest.mark.parametrize("named", ["several_middle", "several-middle"], ids=["variable", "app"])
def test_the_named_one_comes_with_what_it_depends_on(named: str) -> None:
    """As --help and man page say: its dependencies, nothing that depends on it, nothing beside it."""
    done = alice(*serving(file(), named))
    assert [url.split("/")[2].split(".")[0] for url in done.stdout.split()] == ["several-base", "several-middle"]
    assert present() == ["several-base", "several-middle"]


def test_a_circle_is_refused_whole() -> None:
    """The arrows are shown; not even what stands beside the circle is served."""
    before = everything()
    body = SEVERAL + "several_base.add_dependency(several_top)\n"
    said = refused(*serving(file(body)), status=2)
    circle = r"depends_on is circular: (several-\w+ → ){3}several-\w+"
    assert re.search(circle, said), said
    assert everything() == before


def test_what_only_the_daemon_can_refuse_is_refused_before_the_first_app_is_served() -> None:
    """The last one's secret is not in the store: nothing of the file is deployed, as if the file were wrong."""
    before = everything()
    body = SEVERAL + "several_top.secrets = [flyte.Secret(key='NOT_IN_THE_STORE', as_env_var='X')]\n"
    said = refused(*serving(file(body)), status=4)
    assert "'NOT_IN_THE_STORE'" in said
    assert "no app of the file is served" in said
    assert everything() == before


def test_what_fails_keeps_back_what_comes_after_it() -> None:
    """The dependency stays; what waits for the failed one is not begun, and the error names it; then it is mended."""
    file(breaks="several-middle")
    for attempt, base in enumerate(["revision 1 is live", "unchanged, revision 1 is live"], start=1):
        done = by("alice", *serving("several.py", "several_top"))
        assert done.returncode == 8
        assert f"several-base: {base}" in done.stderr
        assert f"revision {attempt} of app 'several-middle' did not start" in done.stderr
        assert "broken on purpose" in done.stderr
        assert "not served because of that: several-top" in done.stderr
        states = {a["name"]: a["state"] for a in answer("app", "ls")["apps"] if a["name"] in NAMES}
        assert states == {"several-base": "running", "several-middle": "failed"}
    alice(*serving(file(), "several_top"))
    assert {a["name"]: a["state"] for a in answer("app", "ls")["apps"] if a["name"] in NAMES} == dict.fromkeys(
        ORDER, "running"
    )
