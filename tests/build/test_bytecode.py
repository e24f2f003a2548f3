"""Byte code that images share: each module is compiled once, by the Python of the image, and from its own source."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from flyted.build import bytecode
from flyted.build.pythons import Python, Release, release_of
from tests.build.harness import HASH, Builds, wheel

pytestmark = pytest.mark.slow

HERE = Python(sys.executable, sys.version_info[:2])
OTHER = "f" * 32
EVIL = b"\xe3\0\0\0"  # the head of a code object: no compiler made this file


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images with room for a store, and one for lists."""
    for name in ("one/lib", "two/lib", "scratch"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def compiled(images: Path, name: str, release: Release | None = None) -> list[bytecode.Missing]:
    """An image is compiled, and what was not in the store is put there."""
    missing = bytecode.compile_all(
        images / name, HERE, release or release_of(HERE), images / bytecode.STORE, images / "scratch"
    )
    bytecode.share(missing)
    return missing


def module(images: Path, image: str, text: str, name: str = "module.py") -> Path:
    """A module in an image, as old as all others of these tests."""
    path = images / image / "lib" / name
    path.write_text(text)
    os.utime(path, (1_000_000, 1_000_000))
    return path


def cached(source: Path) -> Path:
    """Where this Python looks for the byte code of a module."""
    return Path(importlib.util.cache_from_source(str(source)))


def shipped(source: Path, code: bytes = EVIL) -> Path:
    """Byte code that a wheel brings for a module, with the head that Python and compileall expect of it."""
    head = importlib.util.MAGIC_NUMBER + b"\0\0\0\0"
    head += int(source.stat().st_mtime).to_bytes(4, "little") + source.stat().st_size.to_bytes(4, "little")
    path = cached(source)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(head + code)
    return path


def test_images_share_the_byte_code_of_a_package(builds: Builds) -> None:
    """The second image has the first one's compiled files, and a traceback names its own source nevertheless."""
    wheel(builds.packages, "one", files={"one.py": "def fails():\n    raise ValueError\n"})
    wheel(builds.packages, "two")
    builds.recipe(["one"])
    assert builds.run()[0] == 0
    builds.recipe(["one", "two"])
    assert builds.run("--image", OTHER)[0] == 0
    mine, theirs = (Path(builds.python("import one; print(one.__cached__)", digest)) for digest in (HASH, OTHER))
    assert mine.samefile(theirs)
    asks = "import one, traceback\ntry: one.fails()\nexcept ValueError: print(traceback.format_exc())"
    for digest in (HASH, OTHER):
        assert f'File "{builds.image(digest)}/lib' in builds.python(asks, digest)


def test_only_what_no_image_has_compiled_is_compiled(images: Path) -> None:
    """Of a second image that is the other's new module; nothing of it names the image that was first."""
    module(images, "one", "VALUE = 1\n")
    assert [each.source for each in compiled(images, "one")] == [images / "one/lib/module.py"]
    known = module(images, "two", "VALUE = 1\n")
    new = module(images, "two", "VALUE = 2\n", "new.py")
    assert [each.source for each in compiled(images, "two")] == [new]
    assert cached(known).samefile(cached(images / "one/lib/module.py"))
    assert b"/one/" not in cached(known).read_bytes()
    assert compiled(images, "two") == []


@pytest.mark.parametrize("changed", ["VALUE = 2\n", "VALUE = 1 \n"])
def test_another_source_is_another_file(images: Path, changed: str) -> None:
    """Of the same name and time, and even of the same size."""
    module(images, "one", "VALUE = 1\n")
    compiled(images, "one")
    module(images, "two", changed)
    assert len(compiled(images, "two")) == 1


def test_a_source_of_another_time_is_another_file(images: Path) -> None:
    """Python would not take it: the compiled file has the source's time in its head."""
    module(images, "one", "VALUE = 1\n")
    compiled(images, "one")
    os.utime(module(images, "two", "VALUE = 1\n"), (2_000_000, 2_000_000))
    assert len(compiled(images, "two")) == 1


def test_pythons_share_no_byte_code(images: Path) -> None:
    """Neither those of other versions nor two of one version whose byte code differs (a release and its candidate)."""
    release = release_of(HERE)
    module(images, "one", "VALUE = 1\n")
    compiled(images, "one")
    module(images, "two", "VALUE = 1\n")
    for other in (
        Release("3.9.0", "cpython-39", release.magic),
        Release(release.version, release.cache_tag, "00000000"),
    ):
        store = images / bytecode.STORE
        assert len(bytecode.compile_all(images / "two", HERE, other, store, images / "scratch")) == 1


def test_byte_code_of_a_wheel_reaches_no_other_image(images: Path) -> None:
    """A wheel can have another package's module, and byte code for it with the right head: its own image only."""
    brought = shipped(module(images, "one", "VALUE = 1\n"))
    compiled(images, "one")
    assert brought.read_bytes().endswith(EVIL)  # as ever: compileall finds it up to date
    honest = module(images, "two", "VALUE = 1\n")
    assert len(compiled(images, "two")) == 1
    assert not cached(honest).read_bytes().endswith(EVIL)


def test_byte_code_of_a_source_that_does_not_compile_reaches_no_other_image(images: Path) -> None:
    """Nothing replaces what the wheel brought, so there is nothing to share."""
    shipped(module(images, "one", "def (\n"))
    compiled(images, "one")
    other = module(images, "two", "def (\n")
    assert len(compiled(images, "two")) == 1
    assert not cached(other).exists()


def test_shared_byte_code_is_preferred_to_a_wheels(images: Path) -> None:
    """Where the module is known, no byte code is taken from a wheel, and its file is left to who else has it."""
    module(images, "one", "VALUE = 1\n")
    compiled(images, "one")
    brought = shipped(module(images, "two", "VALUE = 1\n"))
    os.link(brought, images / "of-the-cache")
    assert compiled(images, "two") == []
    assert brought.samefile(cached(images / "one/lib/module.py"))
    assert (images / "of-the-cache").read_bytes().endswith(EVIL)


def test_a_module_with_a_line_feed_in_its_name_is_not_compiled(images: Path) -> None:
    """Its second line could be the name of a file elsewhere."""
    victim = module(images, "two", "VALUE = 1\n", "victim.py")
    (images / "one/lib/x.py\n").mkdir()
    folder = images / f"one/lib/x.py\n{images}/two/lib"
    folder.mkdir(parents=True)
    (folder / "victim.py").write_text("")
    assert compiled(images, "one") == []
    assert not cached(victim).exists()


def test_what_a_folder_in_the_way_keeps_from_being_compiled_fails_no_build(images: Path) -> None:
    """A wheel may have a file that is named __pycache__."""
    module(images, "one", "VALUE = 1\n")
    compiled(images, "one")
    module(images, "two", "VALUE = 1\n")
    (images / "two/lib/__pycache__").write_text("")
    assert len(compiled(images, "two")) == 1


def test_a_full_store_fails_no_build(images: Path) -> None:
    """What cannot be shared is compiled again with the next image."""
    (images / bytecode.STORE).write_text("")
    module(images, "one", "VALUE = 1\n")
    assert len(compiled(images, "one")) == 1
    assert cached(images / "one/lib/module.py").exists()


def test_byte_code_that_no_image_has_goes_with_the_sweep(builds: Builds) -> None:
    """What another image has stays in the store."""
    for name in ("one", "two"):
        wheel(builds.packages, name)
    builds.recipe(["one", "two"])
    assert builds.run()[0] == 0
    builds.recipe(["one"])
    assert builds.run("--image", OTHER)[0] == 0
    store = builds.images / bytecode.STORE
    kept = Path(builds.python("import one; print(one.__cached__)", OTHER))
    assert builds.once("--remove", HASH, "--prune")[0] == 0
    left = [path for path in store.rglob("*") if path.is_file()]
    assert any(path.samefile(kept) for path in left)
    assert {path.stat().st_nlink for path in left} == {2}
    assert builds.once("--remove", OTHER, "--prune")[0] == 0
    assert not store.exists()
