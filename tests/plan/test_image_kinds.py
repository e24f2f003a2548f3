"""Every layer and constructor of the SDK is built. The SDK's own classes are the list.

Which test of tests/machine serves each from a real SDK's file is in CONTRIBUTING.md (tests/image_table.py).
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.errors import FlytedError, Unsupported
from flyted.plan.images.from_spec import known_kind
from flyted.plan.images.root import RootRecipe
from flyted.plan.images.spec import image_from_spec, recipe_from_spec
from tests.plan.roots import ARCH, WITH_UV, planned
from tests.plan.test_root_spec import written

pytestmark = pytest.mark.slow

flyte = pytest.importorskip("flyte")

SCRIPT = '# /// script\n# requires-python = ">=3.12"\n# dependencies = ["httpx"]\n# ///\n'
PIXI = '[workspace]\nname = "w"\nchannels = ["conda-forge"]\nplatforms = ["linux-64"]\n'
PROJECT = '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.10"\n'
MORE = "more than a Python environment"
LAYERS: dict[str, tuple[str, Any]] = {
    # class: what is said where only a venv is built ("": nothing, it can do that), arguments of one
    "PipPackages": ("", lambda here: {"packages": ("six",)}),
    "Requirements": ("", lambda here: {"file": here / "r.txt"}),
    "Env": ("", lambda here: {"env_vars": (("A", "b"),)}),
    "DockerIgnore": ("", lambda here: {"path": str(here / ".dockerignore")}),
    "_DockerLines": ("", lambda here: {"lines": ("LABEL a=b",)}),  # the loader refuses others than labels
    "AptPackages": (MORE, lambda here: {"packages": ("git",)}),
    "Commands": (MORE, lambda here: {"commands": ("true",)}),
    "WorkDir": (MORE, lambda here: {"workdir": "/srv"}),
    "CopyConfig": (MORE, lambda here: {"path_type": 0, "src": here / "r.txt", "dst": "."}),
    "CodeBundleLayer": (MORE, lambda here: {"copy_style": "all", "root_dir": here / "project"}),
    "PythonWheels": (MORE, lambda here: {"wheel_dir": here / "dist", "package_name": "pkg"}),
    "UVProject": (MORE, lambda here: {"pyproject": here / "project/pyproject.toml"}),
    "UVScript": ("", lambda here: {"script": here / "s.py"}),  # its packages; its base image is another matter
    "PoetryProject": (
        MORE,
        lambda here: {"pyproject": here / "project/pyproject.toml", "poetry_lock": here / "project/poetry.lock"},
    ),
    "PixiProject": (MORE, lambda here: {"manifest": here / "project/pixi.toml"}),
    "PixiScript": (MORE, lambda here: {"script": here / "s.py"}),
}
CONSTRUCTORS: dict[str, tuple[str, Any]] = {
    "from_debian_base": ("", lambda kind, here: kind.from_debian_base()),
    "from_base": ("base image .*nginx.* needs more", lambda kind, here: kind.from_base("nginx:1.27")),
    "from_ref_name": (
        "base image .*nginx.* needs more",
        lambda kind, here: kind.from_ref_name("x").clone(base_image="nginx"),
    ),
    "from_uv_script": ("has no Flyte SDK in it", lambda kind, here: kind.from_uv_script(here / "s.py", name="n")),
    "from_pixi_script": ("has no Flyte SDK in it", lambda kind, here: kind.from_pixi_script(here / "s.py", name="n")),
    "from_dockerfile": (
        "of a Dockerfile needs more",
        lambda kind, here: kind.from_dockerfile(here / "Dockerfile", registry="r", name="n"),
    ),
}


def layer_classes() -> list[str]:
    """Every class of the SDK that is a layer, at any depth."""
    from flyte import _image

    found = {name: kind for name, kind in vars(_image).items() if inspect.isclass(kind)}
    return sorted(name for name, kind in found.items() if issubclass(kind, _image.Layer) and kind is not _image.Layer)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with one file of each kind."""
    for name, text in {
        "r.txt": "six\n", ".dockerignore": "*.log\n", "s.py": SCRIPT, "dist/pkg-1-py3-none-any.whl": "",
        "project/pyproject.toml": PROJECT, "project/poetry.lock": "", "project/pixi.toml": PIXI,
        "Dockerfile": "FROM nginx\n",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def check(spec: dict[str, Any], files: dict[str, str], folders: dict[str, str], today: str) -> None:
    """Built as a venv, or as a root image, in jobs that are taken."""
    recipe = image_from_spec(spec, files, folders, ARCH)
    if isinstance(recipe, RootRecipe):
        planned(recipe)
    if not today:
        recipe_from_spec(spec, files)
        return
    with pytest.raises(Unsupported, match=today):
        recipe_from_spec(spec, files)


@pytest.mark.parametrize("name", layer_classes())
def test_every_layer_class_of_the_sdk_is_known(name, here, monkeypatch):
    """A class that is not in the table is new: add its row, and what it does."""
    from flyte import _image

    assert name in LAYERS, f"the SDK has a new layer {name}"
    monkeypatch.setenv("PATH", WITH_UV)
    today, arguments = LAYERS[name]
    image = flyte.Image.from_debian_base().clone(addl_layer=getattr(_image, name)(**arguments(here)), name="n")
    check(*written(image, here / "context"), today)


@pytest.mark.parametrize(
    "name", sorted(n for n, _ in inspect.getmembers(flyte.Image, inspect.ismethod) if n.startswith("from_"))
)
def test_every_constructor_of_the_sdk_is_known(name, here):
    """Like the layers."""
    assert name in CONSTRUCTORS, f"the SDK has a new constructor {name}"
    today, make = CONSTRUCTORS[name]
    image = make(flyte.Image, here)
    if image.dockerfile is not None:
        described = {"dockerfile": {"name": "Dockerfile", "text": image.dockerfile.read_text()}}
        check(described, {}, {}, today)
        return
    check(*written(image, here / "context"), today)


def test_every_method_that_adds_a_layer_is_known():
    """What each makes is a layer of the table above; a new one is to be looked at."""
    found = {name for name, _ in inspect.getmembers(flyte.Image, inspect.isfunction) if name.startswith("with_")}
    assert found == {
        "with_apt_packages", "with_code_bundle", "with_commands", "with_dockerignore", "with_env_vars",
        "with_local_rs_controller", "with_local_v2", "with_local_v2_plugins", "with_pip_packages", "with_pixi_project",
        "with_poetry_project", "with_requirements", "with_source_file", "with_source_folder", "with_uv_project",
        "with_workdir",
    }  # fmt: skip


def test_every_layer_of_the_idl_is_known():
    """The remote builder's language; and every field of it, or the field is refused by name."""
    from flyteidl2.imagebuilder import definition_pb2

    for field in definition_pb2.Layer.DESCRIPTOR.fields:
        assert known_kind(field.json_name), f"the IDL has a new layer {field.json_name}"
        for inner in field.message_type.fields:
            unset = {field.json_name: {inner.json_name: None}}
            try:
                image_from_spec({"baseImage": "nginx", "layers": [unset]}, {}, {}, ARCH)
            except FlytedError as error:
                assert "is not supported" not in error.message, f"{field.json_name}.{inner.json_name} is not known"
