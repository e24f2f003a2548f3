"""The images that Flyte's plug-ins write by default, built whole, and served as their users serve them.

What these images fetch from elsewhere than Debian and PyPI comes from the servers of kit/vendors.py, with tiny
payloads: NVIDIA's packages, Rust, Node.js, llama.cpp, and the engines. All else is real: the plug-ins, each step of
the build, and the programs in it. The servers' certificates are by an authority that only the machine trusts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.machine.kit import layers, llama, nvidia, vendors
from tests.machine.kit.gpus import L40S, TWIN, TWO, has
from tests.machine.kit.settings import settings
from tests.machine.kit.users import answer, by, curl, forget_apps, give
from tests.machine.test_root_images import STATE, image_of
from tests.machine.test_root_images import layers as recorded

SOURCE = """
import flyte
from flyteplugins.{plugin} import {prefix}AppEnvironment

env = {prefix}AppEnvironment(
    name="plugin-{name}", model_hf_path="tiny/chat", model_id="tiny", requires_auth=False,{image}
    resources=flyte.Resources(cpu=1, memory="512Mi", gpu=1),
)
"""
ELEVEN = """
    # as if Python 3.11 read this file, which Debian bookworm has: other ones are fetched from GitHub
    image={prefix}AppEnvironment.image.clone(
        name="n", python_version=(3, 11), base_image=flyte.Image.from_debian_base(python_version=(3, 11)).base_image
    ),"""
PREFIX = {"vllm": "VLLM", "sglang": "SGLang", "llamacpp": "LlamaCpp"}
MADE_HERE = ("cuda", "apt-get update", "rustup", "sglang", "node.tar.xz", "llama.cpp", "base64 -d")
"""Words of the steps that every run of this module has to make itself."""


@pytest.fixture(scope="module", autouse=True)
def _vendors(fake_gpus: None) -> Iterator[None]:
    """The servers; two GPUs with their driver; nothing of an earlier run's images that this one has to make itself."""
    vendors.install()
    has(TWO)
    for layer in recorded():
        record = STATE / f"roots/layers/{layer}.json"
        if any(word in json.loads(record.read_text())["show"] for word in MADE_HERE):
            record.unlink()
    for image in answer("image", "ls")["images"]:
        if ["vllm==0.26.0"] in [layer.get("requirements") for layer in image["layers"]]:
            shutil.rmtree(STATE / "images" / image["hash"])
    with vendors.serving(), settings(vendors.SETTINGS), nvidia.installed("570.1"):
        yield
        forget_apps("plugin-")


def serve(plugin: str, more: str = "") -> str:
    """What flytectl says while it serves an app of alice's, of the image that the plug-in writes."""
    prefix, name = PREFIX[plugin], f"{plugin}{more}"
    image = "" if plugin == "vllm" else ELEVEN.format(prefix=prefix)
    file = give(f"plugin_{plugin}.py", SOURCE.format(plugin=plugin, prefix=prefix, name=name, image=image))
    done = by("alice", "flytectl", "serve", "--python", str(vendors.PYTHON), file, seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def seen(name: str) -> dict[str, Any]:
    """What the engine answers; its GPU is one of the two."""
    status, body = curl(f"https://plugin-{name}.apps.localhost/look")
    assert status == 200, body
    found = dict(json.loads(body))
    assert found.pop("CUDA_VISIBLE_DEVICES", L40S) in {L40S, TWIN}
    return found


def steps(plugin: str) -> list[str]:
    """What the layers of its app's image were made by, lowest first."""
    image = answer("image", "get", image_of(f"plugin-{plugin}")["hash"])
    return [layer["source"] for layer in image["layers"]]


def builds_nothing(plugin: str) -> None:
    """A second app has the image of the first, and nothing is built for it."""
    before = recorded()
    said = serve(plugin, "-two")
    assert "step " not in said
    assert "Installed" not in said
    assert recorded() == before
    first, second = (image_of(f"plugin-{plugin}{more}") for more in ("", "-two"))
    assert {name: first[name] for name in ("hash", "path")} == {name: second[name] for name in ("hash", "path")}
    assert seen(f"{plugin}-two") == seen(plugin)
    forget_apps(f"plugin-{plugin}")


def test_wget_and_apt_in_a_step_believe_whom_the_machine_believes() -> None:
    """With NVIDIA's repository, added as the plug-ins add it; curl, git and uv have variables for that."""
    layer, base = layers.name("authorities"), layers.base()
    commands = (
        "apt-get update", "apt-get install -y --no-install-recommends wget",
        f"wget -nv {vendors.CUDA}cuda-keyring_1.1-1_all.deb", "dpkg -i cuda-keyring_1.1-1_all.deb",
        "apt-get update", "apt-get install -y cuda-toolkit-13-0", "/usr/local/cuda-13.0/bin/nvcc",
        "eval $(apt-config shell FILE Acquire::https::CAInfo)", "test -s $FILE",  # Debian 13's reads a variable, too
    )  # fmt: skip
    try:
        made = layers.make(layer, [base], layers.shell(" && ".join(commands)), network=True)
        assert made.ok, made.text
        assert "nvcc 13.0" in made.lines
        assert "/run/flyted" not in layers.diff(layer, "etc/wgetrc").read_text()  # nothing of it stays in the image
    finally:
        layers.remove(layer)


def test_vllm() -> None:
    """An environment, of packages from three indexes."""
    said = serve("vllm")
    assert "flashinfer-jit-cache==0.6.14" in said
    found = seen("vllm")
    assert found["packages"].pop("flyteplugins-vllm")
    assert found["packages"] == {"vllm": "0.26.0", "flashinfer-jit-cache": "0.6.14"}
    builds_nothing("vllm")


@pytest.mark.long
def test_sglang() -> None:
    """Layers: packages of apt, the CUDA toolkit, Rust, variables, and packages of Python."""
    serve("sglang")
    made = steps("sglang")
    assert made[-7:-4] == [
        "dpkg -i cuda-keyring_1.1-1_all.deb", "apt-get update", "apt-get install -y cuda-toolkit-13-0"
    ]  # fmt: skip
    assert made[-4].startswith("curl --proto '=https'")
    found = seen("sglang")
    assert found["packages"].pop("flyteplugins-sglang")
    assert found == {
        "programs": {"nvcc": "nvcc 13.0", "cargo": "cargo 1.99.0", "rustc": "rustc 1.99.0", "g++": "g++ (Debian"},
        "packages": {"sglang": "0.5.16", "sglang-router": "0.3.2"}, "CUDA_HOME": "/usr/local/cuda-13.0",
    }  # fmt: skip
    builds_nothing("sglang")


@pytest.mark.long
def test_llama_cpp() -> None:
    """Compiled, since the machine has no llama-server: by its compiler and Node.js, with the toolkit's stub.

    When it runs, it has the machine's driver.
    """
    llama.SERVER.unlink(missing_ok=True)  # who needs it installs it
    serve("llamacpp")
    made = steps("llamacpp")
    assert "git clone https://github.com/ggml-org/llama.cpp /opt/llama.cpp" in made
    assert seen("llamacpp") == {"ui": "made by node", "driver": 5701}
    builds_nothing("llamacpp")
