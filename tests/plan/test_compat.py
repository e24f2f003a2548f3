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
from tests.plan.test_image_kinds import CONSTRUCTORS
from tests.values import spec

flyte = pytest.importorskip("flyte")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "packaging/man/flyted-compat.7").read_text()
SERVED = {
    "test_base_images.py": "from_base from_ref_name from_dockerfile with_env_vars",
    "test_root_images.py": "from_debian_base with_apt_packages with_commands",
    "test_root_kinds.py": """from_uv_script with_code_bundle with_dockerignore with_pip_packages with_poetry_project
        with_source_file with_source_folder with_uv_project""",
    "test_layer_kinds.py": "with_requirements with_workdir",
    "test_pixi.py": "from_pixi_script with_pixi_project",
}
"""Module of tests/machine → what it uses in the files that it serves or builds, as the SDK spells it."""
LIKE_OTHERS = {"with_local_v2", "with_local_v2_plugins", "with_local_rs_controller"}
"""They add wheels of a checkout of the SDK itself; the layer is that of other local wheels, in test_root_kinds.py."""


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


def test_what_the_page_calls_built_was_built_in_a_machine() -> None:
    """By the test that is named for it."""
    used = {name: module for module, names in SERVED.items() for name in names.split()}
    assert used.keys() | LIKE_OTHERS == rows("CONSTRUCTORS").keys() | rows("LAYERS").keys()
    for name, module in used.items():
        assert f"{name}(" in (ROOT / "tests/machine" / module).read_text(), f"{module} does not use {name}"
    assert "PythonWheels" in (ROOT / "tests/machine/test_root_kinds.py").read_text()


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
