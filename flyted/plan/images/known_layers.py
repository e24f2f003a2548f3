"""Recognises the apt and shell layers of Flyte's own image for llama.cpp, which only compile llama-server. Pure.

That takes up to an hour. If the machine has a llama-server, that one is used, and the rest of the image is a Python
environment. The layers of Flyte's image for SGLang (the CUDA toolkit, Rust) are built like those of any other image:
they are only fetched and unpacked, and a machine's own toolkit would have to be of exactly that version.

A layer is recognised only word for word: with one more command the image is one of layers anyway. Source:
flyteplugins/llamacpp/_image.py, 2.12.1.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any

_LLAMA = "/opt/llama.cpp"
LLAMA_SERVER = (f"{_LLAMA}/build/bin/llama-server", "/usr/local/bin/llama-server", "/usr/bin/llama-server")
"""The files of which a machine has to have one."""
_APT = (
    "git", "build-essential", "cmake", "pkg-config", "wget", "curl", "ca-certificates", "libnuma-dev", "libssl-dev",
    "pciutils", "libcurl4-openssl-dev", "xz-utils",
)  # fmt: skip
_KEYRING = "cuda-keyring_1.1-1_all.deb"
_REPOSITORY = f"https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/{_KEYRING}"
_TOOLKIT = re.compile(r"apt-get install -y cuda-toolkit-\d{1,2}-\d{1,2}")
_COMMANDS = tuple(
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
_IMAGE = re.compile(r"flyteplugins-llamacpp(?![A-Za-z0-9._-])", re.IGNORECASE)


def of_known_image(requirements: Iterable[str]) -> bool:
    """Report whether an image with these packages is the one for llama.cpp, or based on it."""
    return any(_IMAGE.match(requirement) for requirement in requirements)


def compiles(kind: str, body: Mapping[str, Any]) -> bool:
    """Report whether a layer of that image compiles llama-server."""
    commands = _words(kind, body, "commands", "cmd")
    return bool(commands) and all(map(_of_llama, commands))


def prepares(kind: str, body: Mapping[str, Any]) -> bool:
    """Report whether a layer of that image only installs what llama-server is compiled with."""
    if sorted(_words(kind, body, "aptPackages", "packages")) == sorted(_APT):
        return True
    commands = _words(kind, body, "commands", "cmd")
    first = [f"wget {_REPOSITORY}", f"dpkg -i {_KEYRING}", "apt-get update"]
    return commands[:3] == first and len(commands) == 4 and _TOOLKIT.fullmatch(commands[3]) is not None


def _words(kind: str, body: Mapping[str, Any], wanted: str, field: str) -> list[str]:
    """Return what a layer of the wanted kind lists; nothing of one that says more than that."""
    words = body.get(field) if kind == wanted and len(body) == 1 else None
    return words if isinstance(words, list) and all(isinstance(each, str) for each in words) else []


def _of_llama(command: str) -> bool:
    if found := _SCRIPT.fullmatch(command):
        try:
            return _CMAKE.fullmatch(base64.b64decode(found[1], validate=True).decode("ascii")) is not None
        except (binascii.Error, ValueError):
            return False
    return any(pattern.fullmatch(command) for pattern in _COMMANDS)
