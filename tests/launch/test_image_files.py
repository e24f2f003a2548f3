"""The files of the image's working folder in the app's own: links, after the bundle's files and the app's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.workdirs import Machine

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("stay_here")]

CODE: dict[str, str | bytes] = {"app.py": "1"}
Image = Callable[..., str]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Makes the working folder of an image, of these files."""

    def make(name: str = "image", **files: str) -> str:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for each, text in files.items():
            (folder / each).write_text(text)
        return str(folder)

    return make


def test_a_program_opens_what_its_image_copied_by_a_relative_name(machine: Machine, image: Image) -> None:
    """Also at a wake; what useradd puts into a home folder is left out."""
    folder = image(prompt="p", **{".bashrc": "b"})
    for _ in range(2):
        machine.start(CODE, image=folder)
        assert Path("prompt").read_text() == "p"
    shown = {"app.py": "1", "prompt": "p"} | ({} if Path("/etc/skel/.bashrc").exists() else {".bashrc": "b"})
    assert machine.seen() == shown


def test_the_bundle_goes_first_and_what_the_app_wrote_stays(machine: Machine, image: Image) -> None:
    """A bundle that brings a file of that name later takes the link's place."""
    folder = image(prompt="p", data="d", own="o")
    machine.start(CODE)
    (machine.work / "own").write_text("the app's")
    machine.start({**CODE, "data": "the bundle's"}, image=folder)
    assert machine.seen() == {"app.py": "1", "prompt": "p", "data": "the bundle's", "own": "the app's"}
    machine.start({**CODE, "data": "the bundle's", "prompt": "the bundle's"}, image=folder)
    assert machine.seen()["prompt"] == "the bundle's"
    machine.start(CODE, image=folder)
    assert machine.seen() == {"app.py": "1", "prompt": "p", "data": "d", "own": "the app's"}


def test_links_to_what_the_image_has_not_any_more_go_when_the_app_serves(machine: Machine, image: Image) -> None:
    """Until then the revision before it may go on. Another image's folder, or none: at once."""
    machine.start(CODE, image=image(one="1", two="2"))
    machine.start(CODE, image=image(two="2"), serves=False)
    assert (machine.work / "one").is_symlink()
    machine.start(CODE, image=image(two="2"))
    assert not (machine.work / "one").is_symlink()
    machine.start(CODE, image=image("other", three="3"))
    assert machine.seen() == {"app.py": "1", "three": "3"}
    machine.start(CODE)
    assert machine.seen() == {"app.py": "1"}


def test_a_link_that_the_app_replaced_is_the_apps(machine: Machine, image: Image) -> None:
    """It stays, whatever the image has."""
    machine.start(CODE, image=image(one="1"))
    (machine.work / "one").unlink()
    (machine.work / "one").write_text("mine")
    machine.start(CODE)
    assert machine.seen() == {"app.py": "1", "one": "mine"}


@pytest.mark.parametrize("folder", ["/", "/nonexistent"])
def test_a_root_and_what_is_not_there_show_nothing(machine: Machine, folder: str) -> None:
    """An image without a working folder begins in its root."""
    machine.start(CODE, image=folder)
    assert machine.seen() == {"app.py": "1"}
    assert not (machine.state / "code/.image.json").exists()
