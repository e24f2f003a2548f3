"""Runs the real ``flyte`` in a process of its own, with the companion beside it or without."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("flyte")

ROOT = Path(__file__).parents[2]
KEPT = os.environ.get("PYTHONPYCACHEPREFIX")
BYTECODE = {"PYTHONPYCACHEPREFIX": KEPT} if KEPT else {"PYTHONDONTWRITEBYTECODE": "1"}
"""What is compiled is kept where the tests' own is, and never beside the sources."""
CLI = "import sys; sys.argv[0] = 'flyte'; from flyte.cli.main import main; main()"

ONE = """
from flyte.app import AppEnvironment
env = AppEnvironment(name="one", image="auto", args=["python", "-m", "http.server"], requires_auth=False)
"""
TWO = ONE.replace("env =", "a =") + ONE.replace("env =", "b =").replace('"one"', '"two"')


@dataclass(frozen=True)
class Said:
    """What a process said, and how it ended."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that makes the entry points of pyproject.toml known, as an installed wheel does."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folder = tmp_path_factory.mktemp("metadata")
    info = folder / "flyted-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flyted\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in points.items())
            for group, points in project["entry-points"].items()
        )
    )
    return folder


class Bench:
    """A folder with two app files, a configuration, and ``flyte``."""

    def __init__(self, folder: Path, metadata: Path) -> None:
        self.folder = folder
        self._metadata = metadata
        (folder / "one.py").write_text(ONE)
        (folder / "two.py").write_text(TWO)

    def points_at(self, host: str, more: str = "") -> None:
        """Writes config.yaml: a port of ``host`` where nobody listens."""
        (self.folder / "config.yaml").write_text(
            f"admin: {{endpoint: 'dns:///{host}:9', insecure: true}}\n"
            "task: {org: local, project: p, domain: d}\nimage: {builder: remote}\n" + more
        )

    def python(self, *words: str, companion: bool = True) -> Said:
        """Runs Python in the folder."""
        here = [str(self._metadata), str(ROOT)] if companion else []
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8", "DO_NOT_TRACK": "1",
            "PYTHONPATH": os.pathsep.join(here), "TERM": "dumb", "COLUMNS": "200", **BYTECODE,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, check=False, timeout=120,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8",
        )  # fmt: skip
        return Said(done.returncode, done.stdout, done.stderr)

    def flyte(self, *words: str, companion: bool = True) -> Said:
        """Runs ``flyte WORDS``."""
        return self.python("-c", CLI, *words, companion=companion)


@pytest.fixture
def bench(tmp_path: Path, metadata: Path) -> Bench:
    """An empty folder with the two files; no configuration yet."""
    return Bench(tmp_path, metadata)


@pytest.fixture
def steps_aside_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The warnings that were given since the test began."""
    from flyted.companion import aside

    said: list[str] = []
    monkeypatch.setattr(aside, "_said", said)
    return lambda: said
