"""The builder with a real uv and packages made here: what it makes, and when it makes it again."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from flyted.plan.images import pip
from tests.build.harness import EX_ISOLATED, HASH, PYTHON, Builds, source, wheel

pytestmark = pytest.mark.slow


def test_an_image_has_its_packages_their_byte_code_and_a_record(builds: Builds) -> None:
    """A build leaves a venv at its final place, with byte code for all of it and a complete record."""
    wheel(builds.packages, "one")
    wheel(builds.packages, "two", "2.5")
    builds.recipe(["one"], ["two"])
    before = time.time()
    status, output = builds.run()
    assert status == 0, output
    assert builds.python("import one, two; print(one.VERSION, two.VERSION)") == "1.0 2.5"
    assert Path(builds.python("import two; print(two.__cached__)")).is_file()
    record = builds.record()
    assert record["hash"] == HASH
    assert record["packages"] == 2
    assert record["note"] == ""
    assert record["built"] == []
    assert record["python_asked"] == PYTHON
    assert record["python"] == builds.python("import platform; print(platform.python_version())")
    assert before <= record["built_at"] <= time.time()
    assert "flyted-build: layer 2: two" in output


def test_layers_are_installed_in_order(builds: Builds) -> None:
    """A later layer changes what an earlier one installed, as in a container image."""
    wheel(builds.packages, "one", "1.0")
    wheel(builds.packages, "one", "2.0")
    builds.recipe(["one==2.0"], ["one==1.0"])
    assert builds.run()[0] == 0
    assert builds.python("import one; print(one.VERSION)") == "1.0"


def test_every_user_may_read_an_image_and_nobody_else_write_it(builds: Builds) -> None:
    """Whatever modes a wheel carries, apps (other users) can read the files, and only the builder can write them."""
    wheel(builds.packages, "one", mode=0o600)
    wheel(builds.packages, "two", mode=0o777)
    builds.recipe(["one", "two"])
    assert builds.run()[0] == 0
    for folder, folders, files in os.walk(builds.image()):
        for name in folders + files:
            found = Path(folder, name).lstat()
            if not stat.S_ISLNK(found.st_mode):
                assert found.st_mode & 0o022 == 0, name
                assert found.st_mode & 0o004, name
                assert not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o001, name


def test_images_share_the_files_of_a_package(builds: Builds) -> None:
    """Two images with one package hold its files once: hard links out of uv's cache."""
    wheel(builds.packages, "one")
    wheel(builds.packages, "two")
    other = "f" * 32
    builds.recipe(["one"])
    assert builds.run()[0] == 0
    builds.recipe(["one", "two"])
    assert builds.run("--image", other)[0] == 0
    mine, theirs = (Path(builds.python("import one; print(one.__file__)", digest)) for digest in (HASH, other))
    assert mine.samefile(theirs)


def test_a_complete_image_is_not_built_again(builds: Builds) -> None:
    """The second build of an image finds it, says so, and changes nothing."""
    wheel(builds.packages, "one")
    builds.recipe(["one"])
    assert builds.run()[0] == 0
    before = builds.record()
    status, output = builds.run(PATH="/usr/bin:/bin", UV_OFFLINE="1")
    assert (status, output) == (0, f"flyted-build: image {HASH} is complete\n")
    assert builds.record() == before


def test_a_damaged_image_is_built_again(builds: Builds) -> None:
    """An image that is not whole, or not of this recipe, is emptied and built again."""
    wheel(builds.packages, "one")
    builds.recipe(["one"])
    assert builds.run()[0] == 0
    for damage in ("file lost", "file cut", "no record", "record cut", "python gone", "other recipe"):
        _do(damage, builds)
        status, output = builds.run()
        assert status == 0, output
        assert "is ready" in output, damage
        assert builds.python("import one; print(one.VERSION)") == "1.0", damage
        assert not (builds.image() / "left-over").exists(), damage


def _do(damage: str, builds: Builds) -> None:
    module = Path(builds.python("import one; print(one.__file__)"))
    record = builds.image() / "image.json"
    match damage:
        case "file lost":
            module.unlink()
        case "file cut":
            module.unlink()  # a hard link: the cache's copy stays as it is
            module.touch()
        case "no record":
            (builds.image() / "left-over").write_text("junk")
            record.unlink()
        case "record cut":
            record.write_text(record.read_text()[:40])
        case "python gone":
            (builds.image() / "bin/python").unlink()
            (builds.image() / "bin/python").symlink_to("/nonexistent/python")
        case "other recipe":
            wheel(builds.packages, "two")
            builds.recipe(["one", "two"])


def test_wheels_alone_run_no_code_of_theirs(builds: Builds) -> None:
    """A .pth file of a wheel is code: nothing in a build starts a Python that would run it."""
    marker = builds.base / "ran"
    wheel(builds.packages, "one", files={"one.py": "", "one.pth": f"import os; open({str(marker)!r}, 'w')\n"})
    wheel(builds.packages, "two")
    builds.recipe(["one"], ["two"])
    assert builds.run()[0] == 0
    assert not marker.exists()
    builds.python("import two")
    assert marker.exists()  # it would have run


@pytest.mark.parametrize("option", sorted(set(pip._FLAGS.values()) | {("--upgrade-package", "one")}))
def test_no_option_makes_a_build_of_wheels_run_their_code(builds: Builds, option: tuple[str, ...]) -> None:
    """Some make uv start the environment's Python again, with .pth files of earlier layers: such builds are isolated."""
    marker = builds.base / "ran"
    wheel(builds.packages, "one", files={"one.py": "", "one.pth": f"import os; open({str(marker)!r}, 'w')\n"})
    wheel(builds.packages, "two")
    builds.recipe(["one"], ["two"], options=("--no-index", *option))
    status, output = builds.once("--image", HASH)
    assert status in (0, 1, EX_ISOLATED), output
    assert not marker.exists()


def test_a_wheel_cannot_replace_the_environments_python(builds: Builds) -> None:
    """The next layer would start it, where uv's cache can be written."""
    wheel(builds.packages, "one", files={"one.py": "", "one-1.0.data/data/pyvenv.cfg": "home = /tmp/evil\n"})
    builds.recipe(["one"])
    status, output = builds.run()
    assert status == 1
    assert "replaces the environment's Python" in output
    assert not builds.image().exists()


def test_a_source_package_is_built_apart_from_the_shared_cache(builds: Builds) -> None:
    """The build of wheels says which package, and none of uv's words of failure; the image then shares no file."""
    source(builds.packages, "slow", during="pass")
    wheel(builds.packages, "one")
    builds.recipe(["one"], ["slow"])
    status, output = builds.once("--image", HASH)
    assert status == EX_ISOLATED
    assert output.splitlines()[-1] == "flyted-build: slow has to be built from source"
    assert "error" not in output
    before = _files(builds.images / ".uv")
    status, output = builds.once("--image", HASH, "--isolated")
    assert status == 0, output
    assert _files(builds.images / ".uv") == before
    assert builds.python("import one, slow; print(one.VERSION)") == "1.0"
    files = [p for p in builds.image().rglob("*") if p.is_file() and not p.is_symlink()]
    assert {p.stat().st_nlink for p in files} == {1}
    assert not (builds.image() / ".uv").exists()


def test_a_wheel_is_preferred_to_a_newer_source_package(builds: Builds) -> None:
    """As with pip's --prefer-binary: code of packages runs only where a requirement cannot be met without."""
    wheel(builds.packages, "one", "1.0")
    source(builds.packages, "one", during="pass", version="2.0")
    builds.recipe(["one"])
    assert builds.run()[0] == 0
    assert builds.python("import one; print(one.VERSION)") == "1.0"
    builds.recipe(["one>=2"])
    assert builds.run()[0] == 0
    assert builds.record()["built"] == ["one==2.0"]


def _files(folder: Path) -> dict[str, bytes]:
    """All of a cache but what uv notes about itself."""
    found = (p for p in folder.rglob("*") if p.is_file() and "interpreter" not in str(p) and p.name != ".lock")
    return {str(p): p.read_bytes() for p in found}


def test_what_was_built_from_source_is_recorded(builds: Builds) -> None:
    """Source packages run code of theirs in the build: the record names them."""
    source(builds.packages, "slow", during="pass")
    wheel(builds.packages, "one")
    builds.recipe(["one", "slow"])
    status, output = builds.run()
    assert status == 0, output
    assert builds.record()["built"] == ["slow==1.0"]


def test_a_build_script_sees_nothing_of_the_unit_and_leaves_nothing_behind(builds: Builds) -> None:
    """The home folder of a build is new and goes away; the credentials' folder is not told to build scripts."""
    seen = builds.base / "seen"
    source(builds.packages, "nosy", during=f"pathlib.Path({str(seen)!r}).write_text(repr(dict(os.environ)))")
    builds.recipe(["nosy"])
    assert builds.run()[0] == 0
    environment = eval(seen.read_text())
    assert not {"CREDENTIALS_DIRECTORY", "STATE_DIRECTORY"} & set(environment)
    assert environment["HOME"] != os.environ.get("HOME")
    assert not Path(environment["HOME"]).exists()


def test_a_uv_toml_that_a_package_brings_changes_no_later_layer(builds: Builds) -> None:
    """uv reads settings from the folders above its own: a package must not be able to place some there."""
    wheel(builds.packages, "one", files={"one.py": "", "one-1.0.data/data/uv.toml": "[pip]\nno-index = \n"})
    wheel(builds.packages, "two")
    builds.recipe(["one"], ["two"])
    status, output = builds.run()
    assert status == 0, output
    assert (builds.image() / "uv.toml").exists()  # it was brought
