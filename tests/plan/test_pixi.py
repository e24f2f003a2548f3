"""Pixi projects and scripts, as the real SDK lowers them to commands, copies and variables."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from flyted.plan.images.root import RootPlan
from flyted.plan.images.root_record import pythons
from tests.plan.roots import made
from tests.plan.test_root_spec import commands, debian, plan

flyte = pytest.importorskip("flyte")

WORKSPACE = '[workspace]\nchannels = ["conda-forge"]\nplatforms = ["linux-64"]\n'
HEAD = '# /// script\n# requires-python = ">=3.12"\n# dependencies = ["httpx"]\n# ///\n'
INSTALL = "/opt/pixi/bin/pixi install --manifest-path /opt/pixi-project/pixi.toml --environment"
FETCHED = "fetch pixi v0.72.2 from https://pixi.sh/install.sh"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a manifest."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pixi.toml").write_text(WORKSPACE)
    return folder


def installs(found: RootPlan) -> list[dict[str, Any]]:
    """The steps that install an environment."""
    return [step for step in made(found, "run") if step["argv"][-1].startswith("/opt/pixi/bin/pixi ")]


def test_a_project_is_installed_and_leads_to_its_own_python(project: Path, tmp_path: Path) -> None:
    """What is installed afterwards goes there; the app runs there."""
    other = tmp_path / "p"
    other.mkdir()
    (other / "pyproject.toml").write_text('[project]\nname = "p"\nversion = "1"\n')
    image = debian().with_pixi_project(project).with_pip_packages("six")
    found = plan(image.with_uv_project(other / "pyproject.toml", project_install_mode="install_project"), tmp_path)
    here = "/opt/pixi-project/.pixi/envs/default"
    assert pythons(found.config)[0] == f"{here}/bin/python"
    assert dict(found.config.env)["PATH"].startswith(f"{here}/bin:/opt/pixi/bin:/opt/venv/bin:")
    later = [job.job for job in found.jobs][-2:]
    assert [job["step"]["show"] for job in later] == [
        "uv pip install six", "uv sync --active --inexact --no-editable --project /root/.flyte/p",
    ]  # fmt: skip
    for job in later:
        assert (job["env"]["VIRTUAL_ENV"], job["env"]["UV_PYTHON"]) == (here, f"{here}/bin/python")
    targets = [step["target"] for step in made(found, "copy")]
    assert targets == ["/opt/pixi-project/pixi.toml"]


@pytest.mark.parametrize(
    ("locked", "options", "command"),
    [
        (False, {}, "default"),
        (True, {}, "default --locked"),
        (True, {"environment": "web", "extra_args": "--frozen -v"}, "web --frozen -v"),
        (True, {"environment": "web", "extra_args": "-v"}, "web --locked -v"),
    ],
)
def test_the_commands_are_the_sdks(
    project: Path, tmp_path: Path, locked: bool, options: dict[str, str], command: str
) -> None:
    """With what pixi keeps between builds left out of the layer."""
    if locked:
        (project / "pixi.lock").write_text("version: 6\n")
    found = plan(debian().with_pixi_project(project, **options), tmp_path)
    assert commands(found)[-1] == f"{INSTALL} {command}"
    (step,) = installs(found)
    assert step["show"] == f"{INSTALL.removeprefix('/opt/pixi/bin/')} {command}"
    assert step["caches"] == ["/root/.cache/rattler"]
    copied = [step["target"] for step in made(found, "copy")]
    assert copied == [f"/opt/pixi-project/pixi.{each}" for each in (("toml", "lock") if locked else ("toml",))]
    assert dict(found.config.env)["VIRTUAL_ENV"].endswith(f"/envs/{options.get('environment', 'default')}")


def test_a_whole_project_is_copied(project: Path, tmp_path: Path) -> None:
    """With the manifest of a Python project in it."""
    (project / "pixi.toml").unlink()
    (project / "pyproject.toml").write_text("[tool.pixi.workspace]\n")
    found = plan(debian().with_pixi_project(project, project_install_mode="install_project"), tmp_path)
    (copy,) = made(found, "copy")
    assert (copy["source"].rpartition("/")[2], copy["target"]) == ("project", "/opt/pixi-project")
    assert commands(found)[-1] == f"{INSTALL.replace('pixi.toml', 'pyproject.toml')} default"


def test_a_script_is_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK writes the manifest, from the script's head."""
    (tmp_path / "s.py").write_text(HEAD)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    found = plan(flyte.Image.from_pixi_script(tmp_path / "s.py", name="n"), tmp_path)
    assert [step["show"] for step in made(found, "run")][-2:] == [FETCHED, f"{INSTALL[14:]} default"]
    assert found.config.user == "flyte"


def test_the_secrets_of_a_private_channel_are_for_pixi(project: Path, tmp_path: Path) -> None:
    """Only that one command gets them."""
    token = flyte.Secret("channel", as_env_var="TOKEN")
    found = plan(debian().with_pixi_project(project, secret_mounts=[token]), tmp_path)
    assert [step["secrets"] for step in made(found, "run") if step["secrets"]] == [installs(found)[0]["secrets"]]
    assert installs(found)[0]["secrets"] == [{"credential": "b0", "env": "TOKEN"}]


def test_a_download_that_fails_is_a_step_that_fails(project: Path, tmp_path: Path) -> None:
    """The SDK's command ends with 0 then, and the empty layer would be kept: it is run here, without a network."""
    found = plan(debian().with_pixi_project(project), tmp_path)
    (step,) = [step for step in made(found, "run") if step["show"] == FETCHED]
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"curl": "exit 6", "bash": "cat"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    command = step["argv"][-1].replace("/opt/pixi", str(tmp_path / "pixi"))
    run = ["/bin/sh", "-c", command]
    env = {"PATH": f"{programs}:/usr/bin:/bin"}
    assert subprocess.run(run, env=env, check=False).returncode == 1
    theirs = ["/bin/sh", "-c", command.rpartition(" && ")[0]]
    assert subprocess.run(theirs, env=env, check=False).returncode == 0
    (tmp_path / "pixi/bin").mkdir(parents=True)
    (tmp_path / "pixi/bin/pixi").touch(0o755)
    assert subprocess.run(run, env=env, check=False).returncode == 0


LIKE_THE_SDKS = ("echo pixi install", "pixi install", "curl -fsSL https://pixi.sh/install.sh | bash")


@pytest.mark.parametrize("command", LIKE_THE_SDKS)
def test_a_users_own_command_stays_his(tmp_path: Path, command: str) -> None:
    """Also one that looks like the SDK's."""
    (step,) = made(plan(debian().with_commands([command]), tmp_path), "run")[1:]
    assert (step["argv"][-1], step["show"], step["caches"]) == (command, command, [])
