"""The apt and shell layers of Flyte's own images for SGLang and llama.cpp: what may stand for them here. Pure.

They take gigabytes and up to an hour to build: CUDA's compiler, Rust, llama.cpp from source. If the machine has what
they are for, the rest of the image is a Python environment, as vLLM's is; if not, they are built as others are.

A layer is recognised only word for word: with one more command the image is one of layers anyway. Sources:
flyteplugins/sglang/_app_environment.py, flyteplugins/llamacpp/_image.py, 2.12.1. (vLLM's image has pip layers only.)
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_SGLANG_APT = ("libnuma-dev", "wget", "curl", "openssl", "pkg-config", "libssl-dev", "build-essential")
_LLAMA_APT = (
    "git", "build-essential", "cmake", "pkg-config", "wget", "curl", "ca-certificates", "libnuma-dev", "libssl-dev",
    "pciutils", "libcurl4-openssl-dev", "xz-utils",
)  # fmt: skip
_KEYRING = "cuda-keyring_1.1-1_all.deb"
_REPOSITORY = f"https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/{_KEYRING}"
_TOOLKIT = re.compile(r"apt-get install -y cuda-toolkit-(\d{1,2})-(\d{1,2})")
_RUST = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . $HOME/.cargo/env"
_LLAMA = "/opt/llama.cpp"
_LLAMA_COMMANDS = tuple(
    re.compile(pattern)
    for pattern in (
        r"wget -q https://nodejs\.org/dist/v[0-9.]+/node-v[0-9.]+-linux-x64\.tar\.xz -O /tmp/node\.tar\.xz",
        r"mkdir -p /opt/node && tar -xJf (/tmp/node\.tar\.xz) -C /opt/node --strip-components=1 && rm \1",
        rf"git clone https://github\.com/ggml-org/llama\.cpp {re.escape(_LLAMA)}",
        rf"cd {re.escape(_LLAMA)} && git checkout [A-Za-z0-9._/-]+",
        r"ln -sf (/usr/local/cuda-[0-9.]+/lib64/stubs)/libcuda\.so \1/libcuda\.so\.1",
    )
)
_SCRIPT = re.compile(r"echo ([A-Za-z0-9+/=]+) \| base64 -d \| sh")
_CMAKE = re.compile(
    r"(?:[A-Za-z_]+=[A-Za-z0-9_./:$-]+ )*"
    rf"cmake (?:-S|--build) {re.escape(_LLAMA)}(?:[A-Za-z0-9_./ ,=$()-]|\"[A-Za-z0-9_./:,;=-]*\")*"
)
_IMAGES = re.compile(r"flyteplugins-(?:sglang|llamacpp)(?![A-Za-z0-9._-])", re.IGNORECASE)


@dataclass(frozen=True)
class Need:
    """Something that the machine has: any one of ``files`` (patterns of glob(7)).

    ``gpu``: only an app that uses a GPU needs it.
    """

    files: tuple[str, ...]
    gpu: bool = False


NUMA = Need(("/usr/lib/*/libnuma.so.1", "/usr/lib64/libnuma.so.1"))
COMPILER = Need(("/usr/bin/c++", "/usr/bin/g++"), gpu=True)
LLAMA_SERVER = Need((f"{_LLAMA}/build/bin/llama-server", "/usr/local/bin/llama-server", "/usr/bin/llama-server"))


def toolkit(major: str, minor: str) -> Need:
    """Return the need for CUDA's compiler of exactly this version.

    Kernels are compiled at the first start, and have to match the CUDA that the wheels bring.
    """
    return Need((f"/usr/local/cuda-{major}.{minor}/bin/nvcc",), gpu=True)


def of_known_image(requirements: Iterable[str]) -> bool:
    """Report whether an image with these packages is one of the known images, or built upon one."""
    return any(_IMAGES.match(requirement) for requirement in requirements)


def needs_of(kind: str, body: Mapping[str, Any]) -> tuple[Need, ...] | None:
    """Return what may stand for a layer of a known image; ``None`` for any other layer."""
    field, read = _KINDS.get(kind, ("", None))
    words = body.get(field)
    if read is None or len(body) != 1 or not isinstance(words, list) or not all(isinstance(w, str) for w in words):
        return None
    return read(words)


def _apt(packages: list[str]) -> tuple[Need, ...] | None:
    """Return the needs of an apt layer. Packages that only fetch or build the other layers are left out."""
    if sorted(packages) == sorted(_SGLANG_APT):
        return (NUMA, COMPILER)
    return () if sorted(packages) == sorted(_LLAMA_APT) else None


def _commands(commands: list[str]) -> tuple[Need, ...] | None:
    if commands == [_RUST]:
        return ()  # Rust is for packages that have no wheel: uv reports those
    if commands[:3] == [f"wget {_REPOSITORY}", f"dpkg -i {_KEYRING}", "apt-get update"] and len(commands) == 4:
        found = _TOOLKIT.fullmatch(commands[3])
        return (toolkit(*found.groups()),) if found else None
    if commands and all(_of_llama(command) for command in commands):
        return (LLAMA_SERVER,)
    return None


def _of_llama(command: str) -> bool:
    if found := _SCRIPT.fullmatch(command):
        try:
            return _CMAKE.fullmatch(base64.b64decode(found[1], validate=True).decode("ascii")) is not None
        except (binascii.Error, ValueError):
            return False
    return any(pattern.fullmatch(command) for pattern in _LLAMA_COMMANDS)


_KINDS: dict[str, tuple[str, Callable[[list[str]], tuple[Need, ...] | None]]] = {
    "aptPackages": ("packages", _apt),
    "commands": ("cmd", _commands),
}
