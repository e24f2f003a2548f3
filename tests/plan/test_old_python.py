"""Bases of the SDK's own whose Python is too old for launch: that is known from the ImageSpec."""

from __future__ import annotations

import pytest

from flyted.plan.images.root_spec import old_python
from tests.plan.image_specs import packages
from tests.plan.test_root_spec import written

flyte = pytest.importorskip("flyte")

OLD = ("ghcr.io/flyteorg/flyte:py3.9-v2.12.1", "python:3.9-slim-bookworm")
"""The bases that the SDK starts from, with a Python that is older than the SDK's own apps need."""


@pytest.mark.parametrize(
    ("layer", "old"),
    [
        (packages("six"), True), ({"commands": {"cmd": ["make"]}}, True),
        ({"env": {"envVariables": {"A": "b"}}}, True),
        ({"env": {"envVariables": {"VIRTUAL_ENV": "/opt/venv", "PATH": "/opt/venv/bin:$PATH"}}}, True),
        ({"env": {"envVariables": {"VIRTUAL_ENV": "/opt/other"}}}, False), ({"env": {"envVariables": 5}}, True),
        ({"env": {"envVariables": {"PATH": "/opt/conda/bin:$PATH"}}}, False),
        ({"commands": {"cmd": ["uv venv --clear --python 3.12 /opt/venv"]}}, False),
    ],
)  # fmt: skip
def test_the_python_of_a_base_may_be_too_old(layer, old):
    """Unless a layer may bring another one; and of other bases it is not known."""
    for base in OLD:
        assert old_python({"baseImage": base, "layers": [layer]}) == ("3.9" if old else "")
        assert old_python({"baseImage": base.replace("3.9", "3.10"), "layers": [layer]}) == ""
    for other in ("python:3.9", "nginx", "", None):
        assert old_python({"baseImage": other, "layers": [layer]}) == ""
    assert old_python({"dockerfile": {}}) == ""


def test_an_old_python_is_no_matter_below_a_pixi_project(tmp_path):
    """Its own is another one."""
    (tmp_path / "pixi.toml").write_text("[workspace]\n")
    image = flyte.Image.from_debian_base(python_version=(3, 9)).with_pip_packages("six")
    assert old_python(written(image, tmp_path / "a")[0]) == "3.9"
    assert old_python(written(image.with_pixi_project(tmp_path / "pixi.toml"), tmp_path / "b")[0]) == ""
