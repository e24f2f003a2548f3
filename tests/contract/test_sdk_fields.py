"""Each field, command and method of the SDK has its row in flyted-compat(7), so that a new one is noticed.

Of the versions that are not installed, tests/compat/versions.txt has the names.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.compat import commands, fields, page, remote

# the SDK warns when it is imported
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

flyte = pytest.importorskip("flyte")

COMMANDS = "from tests.compat import commands; print(*sorted(commands.known()), sep='\\n')"


def test_every_field_has_its_row() -> None:
    """And none is listed that the SDK does not have."""
    assert fields.FIELDS.keys() == fields.known()
    assert {verdict for verdict, _ in fields.FIELDS.values()} == {
        fields.HONOURED, fields.REPORTED, fields.REFUSED, fields.WITHOUT,
    }  # fmt: skip


def test_every_command_has_its_row(tmp_path: Path) -> None:
    """As the command itself lists them, in a folder without files that would be commands."""
    listed = subprocess.run(
        [sys.executable, "-c", COMMANDS], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(page.PAGE.parents[2]), "DO_NOT_TRACK": "1", "HOME": str(tmp_path)},
    ).stdout.splitlines()  # fmt: skip
    assert commands.COMMANDS.keys() == set(listed)
    tried = {commands.WORKS, commands.REFUSED}
    left = [name for name, each in commands.COMMANDS.items() if each.verdict in tried and each.tried is None]
    assert left == ["proxy app"], "tests/machine/test_fields.py tries it"


def test_every_method_has_its_row() -> None:
    assert remote.METHODS.keys() == remote.known()


def test_the_page_is_what_the_tables_say() -> None:
    """To write it: python -m tests.compat."""
    assert page.written() == page.tables()


def test_the_sdk_cannot_deploy_a_circle() -> None:
    """So flyted, which refuses one in words, refuses nothing that works on a cluster."""
    from flyte._deploy import plan_deploy
    from flyte.app import AppEnvironment

    one, other = (AppEnvironment(name=name, image="auto", args=["true"]) for name in ("one", "other"))
    one.add_dependency(other)
    other.add_dependency(one)
    with pytest.raises(RecursionError):
        plan_deploy(one)
