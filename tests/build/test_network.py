"""Needs a package index, the one that uv would use here: skipped where there is none."""

from __future__ import annotations

import subprocess

import pytest

from tests.build.harness import Builds, find_uv

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Asks the index for one small package; without an answer there is nothing to test."""
    folder = tmp_path_factory.mktemp("index")
    command = [find_uv(), "--quiet", "--no-progress", "pip", "compile", "--cache-dir", str(folder / "cache"), "-"]
    found = subprocess.run(command, input="six\n", capture_output=True, text=True, check=False, timeout=60, cwd=folder)
    if found.returncode:
        pytest.skip("no package index can be reached")


def test_packages_come_from_the_index_and_a_missing_one_is_told(builds: Builds) -> None:
    """The same builder with the index's packages; one that the index does not have is named."""
    (builds.packages / "none").touch()
    builds.recipe(["six"], ["idna>=3,<4"], options=())
    status, output = builds.run()
    assert status == 0, output
    assert builds.python("import six, idna; print(idna.encode('a'))") == "b'a'"
    builds.recipe(["six", "flyted-has-no-such-package-0"], options=())
    status, output = builds.run()
    assert status == 1
    assert "flyted-has-no-such-package-0 was not found in the package registry" in output.splitlines()[-1]
