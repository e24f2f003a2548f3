"""PyPI's flyte, unmodified, in an environment of alice's own, set up as `flytectl config init` says."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from tests.machine.kit.companion_sdk import ABORTED
from tests.machine.kit.environments import environment_for, install
from tests.machine.kit.users import Done, alice, environment, give, join_group
from tests.share import once_per_machine

SDK = "2.12.1"
HOME = Path("/home/alice")
FOLDER = HOME / "stock"
PYTHON = HOME / f"sdk-{SDK}/bin/python"
GATEWAY = "https://flyted.localhost"


@functools.cache
def prepare() -> None:
    """The environment, the folder and its config.yaml; once."""
    join_group()
    if not PYTHON.with_name("flyte").exists():  # an installation that was broken off has none
        with once_per_machine():
            install(environment_for(PYTHON.parents[1]), f"flyte=={SDK}", "fastapi", "uvicorn")
    give("stock/config.yaml", alice("flytectl", "config", "init", "-").stdout)


def stock(*words: str, seconds: float = 300, typed: str = "", **variables: str) -> Done:
    """A command in alice's folder, with her environment first on PATH."""
    prepare()
    login = {**environment("alice"), "DO_NOT_TRACK": "1", "NO_COLOR": "1", "COLUMNS": "1000", **variables}
    login["PATH"] = f"{PYTHON.parent}:{login['PATH']}"
    return subprocess.run(
        ["runuser", "-u", "alice", "--", *words], input=typed, capture_output=True, text=True, check=False,
        timeout=seconds, cwd=FOLDER, env=login,
    )  # fmt: skip


def flyte(*words: str, **how: str) -> Done:
    """`flyte …`; it must work. Its abort while Python ends is passed over (``companion_sdk.ABORTED``)."""
    done = stock("flyte", *words, **how)  # type: ignore[arg-type]
    assert done.returncode in {0, *ABORTED}, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def refused(*words: str, **how: str) -> str:
    """What `flyte …` says that must fail: no traceback of ours, none of Python's at all."""
    done = stock("flyte", *words, **how)  # type: ignore[arg-type]
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "/usr/lib/flyted" not in said, said
    return " ".join(said.replace("│", " ").split())


def python(source: str, **how: str) -> str:
    """A script of alice's with the SDK; it must work. What it prints.

    It ends without Python's own clearing up, in which the SDK's HTTP client aborts now and then (2.12.1).
    """
    script = (
        f"import flyte, flyte.remote, os, sys\nflyte.init_from_config()\n{source}\nsys.stdout.flush()\nos._exit(0)"
    )
    done = stock(str(PYTHON), "-c", script, **how)  # type: ignore[arg-type]
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
