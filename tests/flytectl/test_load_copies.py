"""What an image's layers copy and cannot: said before the SDK copies anything, by the name of what the user wrote."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from flytectl.loader import copies
from flytectl.loader.bundle import LARGEST
from flytectl.loader.failure import LoadError
from flytectl.loader.run import _Bundles
from flyted.contract.errors import FlytedError, UserCodeFailed
from tests.flytectl.loading import needs_sdk, write
from tests.flytectl.test_load_images import is_root, load_with

pytestmark = [needs_sdk, pytest.mark.slow]

BASE = "flyte.Image.from_debian_base()"
PROJECT = '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.10"\n'
WHEEL = {"p/pkg-1-py3-none-any.whl": ""}
MISSING = {
    'with_source_folder(HERE / "none")': "with_source_folder: Source folder .*/none does not exist",
    'with_source_file(HERE / "none")': "with_source_file: Source file .*/none|with_source_file: Source folder .*/none",
    'with_source_folder(HERE / "app.py")': "with_source_folder: .*app.py is not a directory",
    'with_source_file(HERE / "data")': "with_source_file: .*/data is not a file",
    'with_source_file(Path("a.txt"))': "with_source_file: .*/elsewhere/a.txt",
    'with_source_file([HERE / "data/a.txt", HERE / "none"])': "with_source_file: .*/none",
    'with_uv_project(HERE / "data/pyproject.toml")': "with_uv_project: pyproject.toml file .* does not exist",
    'with_uv_project(HERE / "p/pyproject.toml", uvlock=HERE / "no.lock")': "with_uv_project: UVLock file .*/no.lock",
    'with_poetry_project(HERE / "p/pyproject.toml")': "with_poetry_project: poetry.lock file .* does not exist",
    'clone(addl_layer=PythonWheels(wheel_dir=HERE / "none", package_name="pkg"), name="n")': (
        "local wheels: .*/none has no wheel of pkg: it does not exist"
    ),
    'clone(addl_layer=PythonWheels(wheel_dir=HERE / "data", package_name="pkg"), name="n")': "pkg: it has none",
    'clone(addl_layer=PythonWheels(wheel_dir=HERE / "p", package_name="pkg-two"), name="n")': (
        "of pkg-two: it has pkg-1-py3-none-any.whl"
    ),
    'with_local_v2_plugins("flyteplugins-none")': "local wheels: .*/dist has no wheel of flyteplugins_none",
    'with_dockerignore(HERE / "none").with_source_folder(HERE / "data")': "dockerignore file .*/none",
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a little of everything; the file is loaded from another one."""
    for name, text in {
        "data/a.txt": "a",
        "p/pyproject.toml": PROJECT,
        "a.txt": "a",
        "elsewhere/x": "",
        **WHEEL,
    }.items():
        write(tmp_path, name, text)
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


@pytest.mark.parametrize("layer", MISSING)
def test_what_is_not_there_is_named_with_what_asks_for_it(here: Path, layer: str) -> None:
    """The SDK checks it only where it builds by itself."""
    with pytest.raises(UserCodeFailed, match=MISSING[layer]) as caught:
        load_with(here, f"{BASE}.{layer}", "from flyte._image import PythonWheels")
    assert caught.value.message.startswith("hello: ")
    assert "none\n" not in caught.value.message
    if "dockerignore" not in layer:
        assert f"{here}/elsewhere" in caught.value.hint


def test_a_folder_that_is_too_large_is_refused_before_it_is_copied(here: Path) -> None:
    """A file without content takes no room; what .dockerignore names does not count."""
    with (here / "data/model.bin").open("wb") as file:
        file.truncate(LARGEST + 1)
    copy = f'{BASE}.with_source_folder(HERE / "data")'
    with pytest.raises(FlytedError, match=r"larger than 256 MiB: .*/data does not fit") as caught:
        load_with(here, copy)
    assert ".dockerignore" in caught.value.hint
    with pytest.raises(FlytedError, match=r"larger than 256 MiB: .*/model.bin does not fit"):
        load_with(here, f'{BASE}.with_source_file(HERE / "data/model.bin")')
    write(here, ".dockerignore", "*.bin\n")
    with load_with(here, copy.replace(")", ').with_dockerignore(HERE / ".dockerignore")', 1)) as loaded:
        is_root(loaded)


def test_several_folders_share_one_limit(here: Path) -> None:
    """Each of them would fit."""
    for name in ("one", "two"):
        with write(here, f"{name}/x", "").open("wb") as file:
            file.truncate(LARGEST // 2 + 1)
    with pytest.raises(FlytedError, match=r"larger than 256 MiB: .*/two does not fit"):
        load_with(here, f'{BASE}.with_source_folder(HERE / "one").with_source_folder(HERE / "two")')


def test_the_bundles_of_a_file_share_one_limit() -> None:
    """flytectl takes no more from the user's program."""
    bundles = _Bundles(None)  # type: ignore[arg-type]
    for byte in (b"a", b"b"):
        bundles.add(byte * (LARGEST // 2 + 1))
    with pytest.raises(LoadError, match="at most 256 MiB can be sent at once"):
        bundles.write(-1)


def test_what_cannot_be_read_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK would leave it out, and say so in its log."""
    (here / "data/secret").write_text("x")
    monkeypatch.setattr(os, "access", lambda path, _how: path.name != "secret")  # root may read everything
    with pytest.raises(LoadError, match=r"app: .*/data/secret cannot be read for the image: Permission denied"):
        copies._room(SimpleNamespace(name="app"), here / "data", [], 100)
