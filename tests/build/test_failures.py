"""Builds that fail, are killed, or meet: no half image is ever taken for one."""

from __future__ import annotations

import ast
import os
import signal
import sys
from pathlib import Path

import pytest

from flyted.build.main import main
from tests.build.harness import BUILDER, EX_ISOLATED, HASH, Builds, find_uv, source, wheel

pytestmark = pytest.mark.slow

EX_TEMPFAIL, EX_CONFIG = 75, 78


def test_a_package_that_does_not_exist_is_named_and_nothing_is_left(builds: Builds) -> None:
    """uv's own words come through, the last line says layer and reason, and the folder is gone."""
    wheel(builds.packages, "one")
    builds.recipe(["one"], ["nosuch-package"])
    status, output = builds.run()
    assert status == 1
    last = output.strip().splitlines()[-1]
    assert last.startswith("flyted-build: layer 2: ")
    assert "nosuch-package was not found" in last
    assert output.count("nosuch-package was not found") == 2
    assert not builds.image().exists()


def test_a_build_script_that_fails_fails_the_build(builds: Builds) -> None:
    """The traceback of a source package's build reaches the user."""
    source(builds.packages, "broken", during="raise RuntimeError('no compiler here')")
    builds.recipe(["broken"])
    status, output = builds.run()
    assert status == 1
    assert "no compiler here" in output
    assert list(builds.image().iterdir()) == []  # in the machine the daemon has it removed: it cannot do so itself


def test_a_killed_build_leaves_no_record_and_the_next_one_succeeds(builds: Builds) -> None:
    """SIGKILL at any point: what is there has no record, so the next build begins anew."""
    os.mkfifo(builds.base / "gate")
    source(builds.packages, "slow", during=_gate(builds))
    builds.recipe(["slow"])
    process = builds.start_apart("--image", HASH)
    gate = os.open(builds.base / "gate", os.O_WRONLY)  # returns when the build script is there
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    os.close(gate)
    assert builds.image().is_dir()
    assert not (builds.image() / "image.json").exists()
    wheel(builds.packages, "slow")
    builds.recipe(["slow"], options=("--no-index", "--only-binary", "slow"))
    status, output = builds.run()
    assert status == 0, output
    assert builds.record()["packages"] == 1


def test_two_builds_of_one_image_make_it_once(builds: Builds) -> None:
    """The second waits for the first and finds its work done."""
    os.mkfifo(builds.base / "gate")
    source(builds.packages, "slow", during=_gate(builds))
    builds.recipe(["slow"])
    first = builds.start_apart("--image", HASH)
    gate = os.open(builds.base / "gate", os.O_WRONLY)
    second = builds.start("--image", HASH)
    assert second.stdout is not None
    assert "waiting" in second.stdout.readline()
    os.close(gate)
    (first_said, _), (second_said, _) = first.communicate(), second.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    assert "is ready" in first_said
    assert second_said == f"flyted-build: image {HASH} is complete\n"


def test_a_build_that_waited_for_one_that_failed_builds(builds: Builds) -> None:
    """An isolated build that fails leaves an empty folder: who waited for it begins anew, and asks for one apart too."""
    os.mkfifo(builds.base / "gate")
    source(builds.packages, "slow", during=f"{_gate(builds)}\n    raise RuntimeError('once')")
    builds.recipe(["slow"])
    first = builds.start_apart("--image", HASH)
    gate = os.open(builds.base / "gate", os.O_WRONLY)
    second = builds.start("--image", HASH)
    assert second.stdout is not None
    assert "waiting" in second.stdout.readline()
    os.close(gate)
    assert "once" in first.communicate()[0]
    said, _ = second.communicate()
    assert (first.returncode, second.returncode) == (1, EX_ISOLATED), said


def test_images_are_removed_by_their_owner_but_not_while_being_built(builds: Builds) -> None:
    """--remove deletes an image and is content with one that is not there; one being built is left alone.

    That one keeps neither the images behind it on the command line nor uv's cache.
    """
    os.mkfifo(builds.base / "gate")
    source(builds.packages, "slow", during=_gate(builds))
    wheel(builds.packages, "one")
    builds.recipe(["one"])
    for digest in ("a" * 32, "d" * 32):
        assert builds.run("--image", digest)[0] == 0
    builds.recipe(["slow"])
    building = builds.start_apart("--image", HASH)
    gate = os.open(builds.base / "gate", os.O_WRONLY)
    assert _cached(builds)
    status, output = builds.run("--remove", HASH, "--remove", "d" * 32, "--prune")
    assert status == EX_TEMPFAIL, output
    assert f"image {HASH} is being built" in output
    assert not builds.image("d" * 32).exists()
    assert not _cached(builds)
    os.close(gate)
    building.communicate()
    assert building.returncode == 0
    status, output = builds.run("--remove", HASH, "--remove", "a" * 32, "--remove", "b" * 32)
    assert status == 0, output
    assert [path.name for path in builds.images.iterdir() if not path.name.startswith(".")] == []


def test_a_link_in_the_place_of_an_image_is_not_followed(builds: Builds) -> None:
    """A link where the image should be is an error; what it points to is left alone."""
    victim = builds.base / "victim"
    victim.mkdir()
    (victim / "file").touch()
    builds.image().symlink_to(victim)
    builds.recipe(["one"])
    status, output = builds.run()
    assert status == 74
    assert output.startswith("flyted-build: ")
    assert (victim / "file").exists()


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", '{"format": 2, "python": "3.12", "installs": []}',
        '{"format": 1, "python": "../x", "installs": []}',
        '{"format": 1, "python": "3.12", "installs": [{"source": "x", "requirements": "one", "options": []}]}',
    ],
)  # fmt: skip
def test_a_recipe_of_unknown_form_is_refused(
    builds: Builds, content: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe that is not exactly as expected ends the build before anything is done."""
    builds.recipe(["one"])
    (builds.base / "credentials/recipe").write_text(content)
    assert _here(builds, monkeypatch, "--image", HASH) == EX_CONFIG
    assert "the recipe" in capsys.readouterr().out
    assert list(builds.images.iterdir()) == []


@pytest.mark.parametrize("option", ["--image", "--remove"])
@pytest.mark.parametrize("name", ["", "x", "../" + "a" * 29, "A" * 32, "a" * 33, "a" * 31 + "\n"])
def test_an_image_is_named_by_a_hash_only(
    builds: Builds, option: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No other name becomes a path."""
    builds.recipe(["one"])
    with pytest.raises(SystemExit, match="2"):
        _here(builds, monkeypatch, option, name)
    assert "32 hex digits" in capsys.readouterr().err
    assert list(builds.images.iterdir()) == []


def _here(builds: Builds, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The builder in this process: for what ends before it does anything."""
    monkeypatch.setattr(os, "umask", lambda mask: mask)
    monkeypatch.setenv("STATE_DIRECTORY", str(builds.images))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(builds.base / "credentials"))
    return main(["--uv", find_uv(), *words])


def test_outside_of_a_unit_the_builder_says_what_it_is(builds: Builds) -> None:
    """Run by hand, without what a unit gives it, it ends with one line and no traceback."""
    builds.recipe(["one"])
    status, output = builds.run(STATE_DIRECTORY="")
    assert status == EX_CONFIG
    assert output == "flyted-build: STATE_DIRECTORY is not set: only units of flyted run this program\n"


def test_without_uv_the_build_fails_with_a_reason(builds: Builds) -> None:
    """A uv that cannot be run is named; there is no traceback."""
    builds.recipe(["one"])
    with builds.start("--uv", "/nonexistent/uv", "--image", HASH) as process:
        output, _ = process.communicate()
    assert process.returncode == EX_CONFIG
    assert output.splitlines()[-1] == "flyted-build: /nonexistent/uv cannot be run: No such file or directory"


def test_the_builder_needs_nothing_but_the_standard_library() -> None:
    """It runs with the system's Python, isolated: every import of it is of the standard library or a neighbour."""
    for path in BUILDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in sys.stdlib_module_names or name == "flyted.build.main", (path.name, name)


def _gate(builds: Builds) -> str:
    """Build code that waits until the test has opened the gate and closed it again."""
    return f"open({str(builds.base / 'gate')!r}).read()"


def _cached(builds: Builds) -> list[Path]:
    """The wheels in uv's cache."""
    return [*(builds.images / ".uv").rglob("*.whl"), *(builds.images / ".uv").glob("archive-v*/*")]
