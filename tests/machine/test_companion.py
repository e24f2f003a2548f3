"""The companion with the two minor versions of the SDK before the newest: its own tests, and the guide's commands."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.companion_sdk import SHARE, Desk, clear, files
from tests.machine.kit.environments import environment_for, install
from tests.machine.kit.users import EXAMPLES, becoming, curl, environment

ROOT = Path(__file__).parents[2]
APP = "authenticated-api"


@pytest.fixture(scope="module", params=["2.11.4", pytest.param("2.10.7", marks=pytest.mark.long)])
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An environment with that SDK, and without the companion."""
    found = environment_for(request.param)
    install(found, f"flyte=={request.param}", "fastapi", "uvicorn", "msgpack", "pytest", "hypothesis")
    yield found
    clear("API_KEY", apps=(APP,))


def test_its_own_tests_pass(place: Path) -> None:
    """Those of ``tests/companion``, with this SDK."""
    done = subprocess.run(
        [*becoming("alice"), place / "bin/python", "-m", "pytest", "-q", ROOT / "tests/companion"],
        check=False, capture_output=True, text=True, cwd=ROOT, timeout=900,
        env={**environment("alice"), "PYTHONPYCACHEPREFIX": str(place / "pycache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(r"\b1?\d\d passed", done.stdout), done.stdout


def test_the_guides_commands_work(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Secret, ``flyte serve``, the script: as with the newest."""
    install(place, "--no-deps", *map(str, SHARE.glob("flyted-*.whl")))
    clear("API_KEY", apps=(APP,))
    desk = Desk(files("older", EXAMPLES / "basic_auth.py"), place, capsys)
    desk.works("flyte create secret API_KEY -begins-with-a-dash")
    said = desk.works("flyte serve basic_auth.py")
    assert "[Status] Started: Service is ready" in said
    url = said.rstrip().rpartition("🚀 Deployed Endpoint: ")[2]
    assert curl(f"{url}/protected", "-H", "Authorization: Bearer -begins-with-a-dash")[0] == 200
    assert f"API URL: {url}" in desk.works("python basic_auth.py")
