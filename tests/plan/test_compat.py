"""flyted-compat(7) has all that the SDK has, and says of it what the planner does and a machine has shown."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from flyted.contract.errors import Unsupported
from flyted.plan.facts import Platform, RootFact
from flyted.plan.images.known_layers import LLAMA_SERVER
from flyted.plan.images.root_check import check
from tests import image_table
from tests.plan.test_image_kinds import CONSTRUCTORS, LAYERS
from tests.values import spec

pytestmark = pytest.mark.slow

flyte = pytest.importorskip("flyte")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "packaging/man/flyted-compat.7").read_text()


def rows(title: str) -> dict[str, str]:
    """The names of a section, each with what is said of it."""
    found = re.search(rf"^\.Sh {title}\n(.*?)^\.El", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    parts = re.split(r"^\.It Fn (\w+)\n", found[1], flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_page_has_every_constructor_of_the_sdk() -> None:
    """A new one fails here and in test_image_kinds.py."""
    assert rows("CONSTRUCTORS").keys() == CONSTRUCTORS.keys()
    methods = {name for name, _ in inspect.getmembers(flyte.Image, inspect.ismethod) if name.startswith("from_")}
    assert methods == CONSTRUCTORS.keys()


def test_the_page_has_every_layer_of_the_sdk() -> None:
    """By the methods that add them."""
    assert rows("LAYERS").keys() == {
        n for n, _ in inspect.getmembers(flyte.Image, inspect.isfunction) if n[:5] == "with_"
    }


def test_the_table_is_of_all_that_the_sdk_has_and_of_what_a_machine_has_served() -> None:
    """A new constructor, method or layer class fails here until a machine's test serves it: mark that.

    To write the table: python -m tests.image_table.
    """
    table = image_table.rows()
    assert {row.name for row in table} >= {*CONSTRUCTORS, *LAYERS, *rows("LAYERS")}
    assert image_table.man(table) == image_table.section(PAGE, ".Sh TABLE", ".Sh PLUG-INS")
    document = image_table.DOCUMENT.read_text()
    assert image_table.markdown(table) in document
    for row in table:
        module, _, test = row.test.partition("::")
        assert f"def {test}(" in (ROOT / "tests/machine" / module).read_text()


def test_a_mark_of_what_a_test_does_not_use_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own text counts, and what of its module it uses by name; not what else is there."""
    text = """
import pytest
IMAGE = "Image.from_base('x').with_commands(['y'])"
OTHER = "with_workdir('/')"
@pytest.fixture
def app(): return IMAGE
@pytest.mark.serves("from_base", "{name}")
def test_it(app): print("with_apt_packages()")
"""
    monkeypatch.setattr(image_table, "MACHINE", tmp_path)
    module = tmp_path / "test_x.py"
    for name in ("with_commands", "with_apt_packages"):
        module.write_text(text.format(name=name))
        assert image_table.served_by() == dict.fromkeys(("from_base", name), "test_x.py::test_it")
    module.write_text(text.format(name="with_workdir"))
    with pytest.raises(ValueError, match="does not use with_workdir"):
        image_table.served_by()
    module.write_text(text.format(name="with_commands"))
    with pytest.raises(KeyError):  # nothing serves the others
        image_table.rows()


def test_flyte_refuses_what_the_table_says(tmp_path: Path) -> None:
    """In its own words, before anything is sent."""
    from flyte._internal.imagebuild.remote_builder import _get_layers_proto

    image = flyte.Image.from_dockerfile(tmp_path / "Dockerfile", registry="r", name="n")
    with pytest.raises(flyte.errors.ImageBuildError, match=image_table.BY_FLYTE["from_dockerfile"]):
        _get_layers_proto(image, tmp_path)
    assert image_table.BY_FLYTE.keys() == {"from_dockerfile"}


def test_the_page_says_what_may_stand_for_layers_of_plug_ins() -> None:
    """The files that are looked for, and no other."""
    said = re.search(r"^\.Sh PLUG-INS\n(.*?)^\.Sh", PAGE, re.MULTILINE | re.DOTALL)
    assert said is not None
    folders = {path.rpartition("/")[0] for path in LLAMA_SERVER}
    assert set(re.findall(r"^\.Pa (/\S+)", said[1], re.MULTILINE)) == folders


def test_the_page_says_which_images_have_no_gpus() -> None:
    """In the words of the refusal."""
    found = re.search(r"^\.Sh GPUS\n.*?^\.Dq (.*) \.$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    with pytest.raises(Unsupported, match=re.escape(found[1])):
        check(spec(gpu_count=1), RootFact((), python="/p", musl=True), Platform())
