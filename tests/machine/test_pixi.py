"""pixi projects and scripts in images, as the real SDK describes them, from a conda channel of this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit import conda, internet, pixi_program, pypi_flyte
from tests.machine.kit.users import answer, by, curl, forget_apps, give, until
from tests.machine.test_root_images import STATE, image_of, layers, layers_of
from tests.projects import uv_project

HERE = "stock/pixi"
ENVS = "/opt/pixi-project/.pixi/envs"
SITES = Path("/srv/flyted-test-internet")
HEAD = """
import os, subprocess, sys
from pathlib import Path
from fastapi import FastAPI
import flyte
from flyte.app.extras import FastAPIAppEnvironment

HERE = Path(__file__).parent
BASE = flyte.Image.from_debian_base(python_version=(3, 11)).base_image
app = FastAPI()

@app.get("/")
def look(what: str = "'up'"):
    return eval(what)

env = FastAPIAppEnvironment(
    name="{name}", app=app, requires_auth=False,
    image=flyte.Image.from_pixi_script(HERE / "script.py", name="n")
    .clone(base_image=BASE, python_version=(3, 11), name="n", extendable=True)
    .with_pixi_project(HERE / "{project}", environment="serve"){more},
)
"""
MORE = """
    .with_pip_packages("flyte==2.12.1", "fastapi", "uvicorn")
    .with_uv_project(HERE / "p/pyproject.toml", project_install_mode="install_project")"""
SCRIPT = """# /// script
# requires-python = ">=3.11"
# dependencies = ["iniconfig==2.0.0"]
#
# [tool.pixi.dependencies]
# greeting = "*"
# ///
"""
MANIFEST = f"""
[workspace]
channels = ["conda-forge"]
platforms = ["{conda.SUBDIR}"]
[dependencies]
python = "3.11.*"
[feature.web.dependencies]
greeting = "WANTED"
[environments]
serve = ["web"]
"""


@pytest.fixture(scope="module", autouse=True)
def _channel() -> Iterator[None]:
    """What users have, and conda-forge with two versions of a package; pixi.sh has nothing yet."""
    pypi_flyte.prepare()
    for layer, what in shown().items():
        if what.startswith(("fetch pixi", "pixi install")):  # without a record it is made again, as at a first run
            (STATE / f"roots/layers/{layer}.json").unlink()
    shutil.rmtree(SITES, ignore_errors=True)
    channel = conda.Channel(SITES / "conda.anaconda.org/conda-forge")
    python = conda.python()
    for each in (python, conda.noarch("greeting", "1.0"), conda.noarch("greeting", "2.0")):
        channel.add(each)
    lock = channel.lock("serve", python.file, "greeting-1.0-0.conda")
    for name, text in {
        "script.py": SCRIPT, "project/pixi.toml": MANIFEST.replace("WANTED", "*"), "project/pixi.lock": lock,
        "stale/pixi.toml": MANIFEST.replace("WANTED", ">=2"), "stale/pixi.lock": lock,
        "p/pyproject.toml": uv_project("ours"), "p/src/ours/__init__.py": "WHO = 'ours'\n",
    }.items():  # fmt: skip
        give(f"{HERE}/{name}", text)
    with internet.serving(SITES, "pixi.sh", "conda.anaconda.org"):
        yield
    shutil.rmtree(SITES)
    forget_apps("pixi-")


def file(name: str, project: str = "project", more: str = "") -> str:
    text = HEAD.format(name=f"pixi-{name}", project=project, more=more)
    return give(f"{HERE}/{name}.py", text)


def refused(name: str, project: str) -> str:
    """Why an image was not built."""
    done = by("alice", "flytectl", "serve", file(name, project))
    assert done.returncode == 8, done.stdout + done.stderr
    return done.stderr.rpartition("flytectl: ")[2]


def says(what: str) -> object:
    """What an expression is in the app."""
    status, body = curl("https://pixi-all.apps.localhost/", "-G", "--data-urlencode", f"what={what}")
    assert status == 200, body
    return json.loads(body)


def shown() -> dict[str, str]:
    """The layers, each with what made it."""
    return {each: json.loads((STATE / f"roots/layers/{each}.json").read_text())["show"] for each in layers()}


def test_a_pixi_that_cannot_be_fetched_is_fetched_at_the_next_build() -> None:
    """The SDK's command ends well then, so its layer would have been kept; no packages are asked for."""
    said = refused("all", "project")
    assert "fetch pixi v0.72.2 from https://pixi.sh/install.sh: exited with status 1\n  curl: (22)" in said
    (SITES / "pixi.sh").mkdir()
    for name, text in pixi_program.FILES.items():
        (SITES / "pixi.sh" / name).write_text(text)
    said = refused("all", "stale")
    assert "pixi install --manifest-path /opt/pixi-project/pixi.toml --environment serve --locked: exited with" in said
    assert "lock-file not up-to-date with the workspace" in said


@pytest.mark.serves("from_pixi_script", "with_pixi_project")
def test_an_app_runs_in_the_environment_of_its_pixi_project() -> None:
    """By the lock; what is installed afterwards is there, too. The script's environment is another one."""
    done = by("alice", "flytectl", "serve", file("all", more=MORE))
    assert done.returncode == 0, done.stdout + done.stderr
    assert says("[sys.prefix, os.environ['VIRTUAL_ENV']]") == [f"{ENVS}/serve"] * 2
    assert image_of("pixi-all")["python"] == "3.11"
    places = "[__import__(each).__file__.rpartition('/site-packages/')[0] for each in ('greeting', 'fastapi', 'ours')]"
    assert says(places) == [f"{ENVS}/serve/lib/python3.11"] * 3
    assert says("subprocess.check_output(['greeting'], text=True) + __import__('six').__version__") == "1.0\n1.16.0"
    assert says(f"subprocess.check_output(['{ENVS}/default/bin/greeting'], text=True)") == "2.0\n"
    assert says(f"Path('{ENVS}/serve/bin/pydoc3').read_text().split()[0]") == f"#!{ENVS}/serve/bin/python3.11"
    assert "too large to be writable" not in done.stderr


def test_what_was_only_needed_to_install_is_in_no_layer() -> None:
    """Of each installation there is the environment; it takes what its files take."""
    made = shown()
    found = [each for each in layers_of(image_of("pixi-all")) if made[each].startswith("pixi install")]
    assert len(found) == 2
    for layer in found:
        diff = STATE / "layers" / layer / "diff"
        assert {path.name for path in diff.iterdir()} <= {"opt", "tmp"}  # uv's lock is in /tmp
        assert {path.name for path in (diff / "opt/pixi-project").iterdir()} <= {".pixi", "pixi.lock"}


def test_flyte_deploy_makes_the_same_image() -> None:
    """The SDK describes it in another process, in which the script's manifest lies elsewhere."""
    before, image = layers(), image_of("pixi-all")["hash"]
    pypi_flyte.flyte("deploy", "pixi/all.py", "env")
    until(lambda: answer("app", "get", "pixi-all")["revision"] > 1, 120)
    until(lambda: curl("https://pixi-all.apps.localhost/")[0] == 200, 120)
    assert (layers(), image_of("pixi-all")["hash"]) == (before, image)
