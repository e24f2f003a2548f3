"""Which Python an image gets, and for how long a fetch that failed is not tried again."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from flyted.build.fetches import KEPT_S, Failures
from flyted.build.uv import Uv
from tests.build.harness import PYTHON, Builds, find_uv, wheel

pytestmark = pytest.mark.slow

EX_UNAVAILABLE = 69
TRIES = "is not installed; downloading it\n"
DOES_NOT = "is not installed, and could not be downloaded a short time ago\n"


def another() -> Path:
    """A Python of another minor version than the one that these tests run with, of those installed beside it."""
    found = [
        path
        for path in sorted(Path(sys.base_prefix).parent.glob("*/bin/python3.*"))
        if re.fullmatch(r"python3\.1\d", path.name) and path.name != f"python{PYTHON}"
    ]
    if not found:
        pytest.skip("no second Python is installed")
    return found[0]


def test_a_python_that_is_nowhere_gives_the_nearest_and_a_note(builds: Builds) -> None:
    """What was asked for, why it is not to be had and what is used instead: in the output and in the record."""
    wheel(builds.packages, "one")
    builds.recipe(["one"], python="3.99")
    status, output = builds.run(UV_OFFLINE="1")
    assert status == 0, output
    record = builds.record()
    used = ".".join(record["python"].split(".")[:2])
    assert record["python_asked"] == "3.99"
    assert record["note"].startswith("Python 3.99 could not be downloaded (")
    assert record["note"].endswith(f"); using {used} instead")
    assert f"flyted-build: {record['note']}\n" in output


def test_without_any_python_the_build_fails_with_a_reason(builds: Builds) -> None:
    """No Python from 3.10 on: said so, exit status 69."""
    builds.recipe(["one"], python="3.12")
    for _ in range(2):  # who has read why, and done something about it, tries again: each build does, too
        status, output = builds.run(PATH="/nonexistent", UV_OFFLINE="1")
        assert status == EX_UNAVAILABLE
        assert TRIES in output
        assert "this machine has no Python 3.10 or newer" in output.splitlines()[-1]
        assert not builds.image().exists()


def said(builds: Builds, number: int, python: str = "3.99", **more: str) -> str:
    """What the build of another image says that asks for ``python``, and cannot reach what is outside."""
    wheel(builds.packages, "one")
    builds.recipe(["one"], python=python)
    status, output = builds.run("--image", f"{number:032x}", UV_OFFLINE="1", **more)
    assert status == 0, output
    return output


def test_the_next_image_does_not_wait_for_the_same_fetch(builds: Builds) -> None:
    """It gets the same Python and the same note; another version is another fetch."""
    assert TRIES in said(builds, 1)
    assert DOES_NOT in said(builds, 2)
    assert TRIES in said(builds, 3, "3.98")
    assert DOES_NOT in said(builds, 4)
    assert DOES_NOT in said(builds, 5, "3.98")
    notes = [builds.record(f"{number:032x}")["note"] for number in (1, 2, 4)]
    assert notes[0].startswith("Python 3.99 could not be downloaded (")
    assert len(set(notes)) == 1


@pytest.mark.parametrize("passed", [-1000.0, float(KEPT_S)])
def test_a_fetch_that_failed_is_tried_again_later(builds: Builds, passed: float) -> None:
    """After some minutes; and when the clock was set back, which would make them hours."""
    said(builds, 1)
    file = builds.images / ".pythons-not-fetched.json"
    known = json.loads(file.read_text())
    known["3.99"]["at"] -= passed
    file.write_text(json.dumps(known))
    assert TRIES in said(builds, 2)
    assert DOES_NOT in said(builds, 3)


def test_a_failure_that_counts_no_more_is_forgotten(builds: Builds) -> None:
    """Whoever asks for ever new versions does not make the file grow for ever."""
    file = builds.images / ".pythons-not-fetched.json"
    file.write_text(json.dumps({f"3.{minor}": {"at": 0, "circumstances": "", "why": ""} for minor in range(50, 60)}))
    failures = Failures(Uv("/nowhere/uv", builds.images, builds.images, builds.images))
    failures.add("3.99", "no such version")
    assert list(json.loads(file.read_text())) == ["3.99"]
    assert failures.of("3.99") == "no such version"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"3.99": 1}', '{"3.99": {"at": "x"}}', '{"3.99": {"at": 1}}'])
def test_a_memory_that_is_not_readable_is_none(builds: Builds, content: str) -> None:
    """The fetch is tried, and what is remembered of it replaces the file."""
    (builds.images / ".pythons-not-fetched.json").write_text(content)
    assert TRIES in said(builds, 1)
    assert DOES_NOT in said(builds, 2)


@pytest.mark.parametrize("name", ["UV_PYTHON_INSTALL_MIRROR", "https_proxy", "SSL_CERT_FILE"])
def test_other_settings_are_tried_at_once(builds: Builds, name: str) -> None:
    """A mirror, a proxy or an authority may be what was missing."""
    assert TRIES in said(builds, 1)
    assert TRIES in said(builds, 2, **{name: "http://localhost:9"})


def test_a_python_that_was_installed_meanwhile_is_used_at_once(builds: Builds) -> None:
    """What is on the machine is never remembered."""
    other = another()
    asked = other.name.removeprefix("python")
    path = builds.base / "bin"
    path.mkdir()
    (path / f"python{PYTHON}").symlink_to(Path(sys.executable).resolve())
    assert TRIES in said(builds, 1, asked, PATH=str(path))
    (path / other.name).symlink_to(other)
    assert "could not" not in said(builds, 2, asked, PATH=str(path))
    assert builds.record(f"{2:032x}")["note"] == ""
