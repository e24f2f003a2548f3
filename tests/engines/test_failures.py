"""Engines that cannot be served, or do not come up: said in words, at once where that can be."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.serving import ENVIRONMENT, MODEL, SCRIPTS, prepare
from tests.machine.kit.users import alice, answer, by, give, refused

APP = "vllm-app-with-auth"
SCRIPT = "vllm_with_auth.py"
EMPTY = Path("/opt/no-engine")
BROKEN = Path("/srv/models/broken")
GREEDY = """
import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name="greedy", command=["vllm", "serve", "Qwen/Qwen3-0.6B", "--port", "8080", "--gpu-memory-utilization", "0.999"],
    port=8080, requires_auth=False, resources=flyte.Resources(cpu=2, memory="8Gi"),
)
"""


@pytest.fixture(autouse=True)
def _ready() -> Iterator[None]:
    prepare()
    give(SCRIPT, (SCRIPTS / SCRIPT).read_text())
    yield
    for app in answer("app", "ls")["apps"]:
        alice("flytectl", "app", "delete", "--yes", app["name"])
    alice("flytectl", "model", "add", "Qwen/Qwen3-0.6B", str(MODEL))
    shutil.rmtree(BROKEN, ignore_errors=True)


def serve(status: int, *options: str, file: str = SCRIPT) -> str:
    """What serve says that must fail."""
    return refused("flytectl", "serve", file, *options, status=status)


def start_fails(file: str, name: str) -> str:
    """Why an app did not start, as serve says it last, and as it is kept."""
    done = by("alice", "flytectl", "serve", file, "--cpu", "--python-env", str(ENVIRONMENT))
    assert done.returncode != 0
    said = done.stderr.rpartition("flytectl: ")[2]
    assert answer("app", "get", name)["last_failure"]["reason"] in said
    return said


def test_an_environment_without_the_engine() -> None:
    """Named with what to install, before anything is started."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", EMPTY], check=True)
    try:
        said = serve(2, "--cpu", "--python-env", str(EMPTY), "--python", str(ENVIRONMENT))
    finally:
        shutil.rmtree(EMPTY)
    assert "has no program vllm-fserve" in said
    assert "uv --system-certs pip install --python /opt/no-engine flyteplugins-vllm" in said


def test_an_image_that_is_a_build_for_gpus() -> None:
    """``--cpu`` alone: gigabytes of CUDA are not fetched first."""
    assert "vllm==0.26.0" in serve(2, "--cpu", "--python", str(ENVIRONMENT))


def test_a_key_that_is_not_there() -> None:
    """Named, with the command that makes it."""
    give("keyless.py", (SCRIPTS / SCRIPT).read_text().replace("AUTH_SECRET", "NO_SUCH_KEY"))
    said = serve(4, "--cpu", "--python-env", str(ENVIRONMENT), file="keyless.py")
    assert "flytectl secret create NO_SUCH_KEY" in said


def test_a_model_that_apps_cannot_read() -> None:
    """A folder whose rights were taken away after it was added, and one that is gone."""
    shutil.copytree(MODEL, BROKEN)
    alice("flytectl", "model", "add", "Qwen/Qwen3-0.6B", str(BROKEN))
    (BROKEN / "model.safetensors").chmod(0o600)
    options = ("--cpu", "--python-env", str(ENVIRONMENT))
    assert f"sudo chmod -R o+rX {BROKEN}" in serve(2, *options)
    shutil.rmtree(BROKEN)
    assert "cannot be read: No such file or directory" in serve(2, *options)


def test_a_folder_that_is_no_model() -> None:
    """vLLM's own error, and not the last of a hundred lines."""
    shutil.copytree(MODEL, BROKEN)
    (BROKEN / "config.json").unlink()
    alice("flytectl", "model", "add", "Qwen/Qwen3-0.6B", str(BROKEN))
    assert str(BROKEN) in start_fails(SCRIPT, APP)


def test_more_memory_than_there_is() -> None:
    """The arithmetic, and what to change."""
    give("greedy.py", GREEDY)
    said = start_fails("greedy.py", "greedy")
    assert "GiB of memory free, and it wants" in said
    assert "VLLM_CPU_KVCACHE_SPACE" in said
