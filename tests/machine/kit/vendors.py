"""Servers that the plug-ins' images fetch from, with tiny payloads in the place of gigabytes.

NVIDIA's apt repository, signed; rustup; Node.js; the repository of llama.cpp; and indexes with the packages of vLLM
and SGLang. All else comes from where it always does.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.build.harness import wheel
from tests.machine.kit import environments, internet
from tests.machine.kit.units import must
from tests.share import once_per_machine

SDK = "2.12.1"
PLUGINS = Path("/opt/flyted-test-plugins")
PYTHON = PLUGINS / "bin/python"
NVIDIA, INDEX = "developer.download.nvidia.com", "packages.flyted.test"
CUDA = f"https://{NVIDIA}/compute/cuda/repos/debian12/x86_64/"
SETTINGS = f'[images.environment]\nUV_INDEX = "https://{INDEX}/simple"\n'
_SITES = Path("/srv/flyted-test-vendors")
_KEYRING = "usr/share/keyrings/cuda-archive-keyring.gpg"
_NAMES = (NVIDIA, "sh.rustup.rs", "static.rust-lang.org", "nodejs.org", "github.com", "flashinfer.ai", INDEX)
_NODE = "node-v22.12.0-linux-x64"
_RUSTUP = """#!/bin/sh
# as rustup's own: fetch the installer for this machine, and run it with the arguments
set -eu
dir=$(mktemp -d)
curl --proto '=https' --tlsv1.2 -sSfL https://static.rust-lang.org/rustup/dist/x86_64-unknown-linux-gnu/rustup-init \\
    -o "$dir/rustup-init"
chmod u+x "$dir/rustup-init"
"$dir/rustup-init" "$@"
rm -r "$dir"
"""
_RUSTUP_INIT = """#!/bin/sh
set -eu
test "$*" = -y
mkdir -p "$HOME/.cargo/bin"
for name in cargo rustc; do
    printf '#!/bin/sh\\necho %s 1.99.0\\n' "$name" >"$HOME/.cargo/bin/$name"
    chmod 755 "$HOME/.cargo/bin/$name"
done
echo 'export PATH="$HOME/.cargo/bin:$PATH"' >"$HOME/.cargo/env"
"""
_UI = """#!/bin/sh
echo '#define UI "made by node"'
"""
_TORCH = """from . import nn
class dtype: ...
class Tensor: ...
for _name in ("float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool float8_e5m2 float8_e4m3fn").split():
    globals()[_name] = dtype()
"""
_COMMON = {"torch/__init__.py": _TORCH, "torch/nn.py": "class Module: ...\n"}  # the plug-ins' starters import it


def install() -> None:
    """What alice imports her files with, and what the servers' files are made with."""
    if not (PLUGINS / "bin/sglang-fserve").exists():
        with once_per_machine():
            plugins = [f"flyteplugins-{name}=={SDK}" for name in ("vllm", "sglang", "llamacpp")]
            environments.install(environments.environment_for(PLUGINS), *plugins)
    if missing := [name for name in ("gpg", "git") if not shutil.which(name)]:
        with once_per_machine():
            must("apt-get", "update", "-qq")
            must("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, "gpg-agent")


@contextmanager
def serving() -> Iterator[None]:
    """Have this machine's resolver lead to these servers."""
    shutil.rmtree(_SITES, ignore_errors=True)
    _nvidia(_SITES / CUDA.partition("://")[2])
    _node(_SITES / f"nodejs.org/dist/v22.12.0/{_NODE}.tar.xz")
    _llama(_SITES / "github.com/ggml-org/llama.cpp")
    for name, text in {
        "sh.rustup.rs/index.html": _RUSTUP,
        "static.rust-lang.org/rustup/dist/x86_64-unknown-linux-gnu/rustup-init": _RUSTUP_INIT,
    }.items():
        _write(_SITES / name, text)
    for place, name, version, files in (
        (f"{INDEX}/simple", "vllm", "0.26.0", _vllm("0.26.0")),
        ("flashinfer.ai/whl/cu130", "flashinfer_jit_cache", "0.6.14", None),
        (f"{INDEX}/simple", "sglang", "0.5.16", _sglang("0.5.16")),
        (f"{INDEX}/simple", "sglang_router", "0.3.2", None),
    ):
        folder = _SITES / place / name.replace("_", "-")
        folder.mkdir(parents=True)
        wheel(folder, name, version, files)
    try:
        with internet.serving(_SITES, *_NAMES):
            yield
    finally:
        shutil.rmtree(_SITES)


def _vllm(version: str) -> dict[str, str]:
    """What the plug-in's starter imports of vLLM, and a server in the place of its own."""
    loaders = "vllm/model_executor/model_loader"
    return {
        **_COMMON,
        "vllm/__init__.py": f"__version__ = {version!r}\n",
        "vllm/config.py": "class ModelConfig: ...\nclass VllmConfig: ...\n",
        "vllm/distributed.py": "def get_tensor_model_parallel_rank(): return 0\n",
        f"{loaders}/__init__.py": "def register_model_loader(name): return lambda loader: loader\n",
        f"{loaders}/default_loader.py": "class DefaultModelLoader:\n    class Source: ...\n",
        f"{loaders}/dummy_loader.py": "class DummyModelLoader: ...\n",
        f"{loaders}/sharded_state_loader.py": "class ShardedStateLoader: ...\n",
        f"{loaders}/utils.py": "def set_default_torch_dtype(dtype): ...\n",
        "vllm/entrypoints/cli/main.py": _engine(),
    }


def _sglang(version: str) -> dict[str, str]:
    """The same of SGLang."""
    return {
        **_COMMON,
        "sglang/__init__.py": f"__version__ = {version!r}\n",
        "sglang/srt/model_loader/loader.py": "class DefaultModelLoader: ...\n",
        "sglang/srt/configs/device_config.py": "class DeviceConfig: ...\n",
        "sglang/srt/configs/model_config.py": "class ModelConfig: ...\n",
        "sglang/srt/server_args.py": "def prepare_server_args(words): return words\n",
        "sglang/srt/utils.py": "def kill_process_tree(pid, include_parent): ...\n",
        "sglang/launch_server.py": f"{_engine()}\nlaunch_server = main\n",
    }


def _engine() -> str:
    return Path(__file__).parents[2].joinpath("apps/tiny_engine.py").read_text()


def _nvidia(place: Path) -> None:
    """NVIDIA's repository: a package with its key and the source, and one with the toolkit."""
    place.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "gnupg")
        home.mkdir(mode=0o700)
        gpg = ("gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "")
        must(*gpg, "--quick-generate-key", "nvidia", "ed25519", "sign")
        key = Path(folder, "keyring", _KEYRING)
        key.parent.mkdir(parents=True)
        must(*gpg, "--output", str(key), "--export")
        source = f"deb [signed-by=/{_KEYRING}] {CUDA} /\n"
        _write(Path(folder, "keyring/etc/apt/sources.list.d/cuda-debian12-x86_64.list"), source)
        keyring = _package(Path(folder, "keyring"), "cuda-keyring", "1.1-1", "all")
        packed = [keyring, *(_toolkit(Path(folder, version), version) for version in ("13.0", "12.8"))]
        (place / "cuda-keyring_1.1-1_all.deb").write_bytes(keyring[1])
        index = "".join(map(_entry, packed))
        for (_, data), name in zip(packed, map(_file, packed), strict=True):
            (place / name).write_bytes(data)
        (place / "Packages").write_text(index)
        told = f"{hashlib.sha256(index.encode()).hexdigest()} {len(index)} Packages"
        release = _write(Path(folder, "Release"), f"Origin: NVIDIA\nLabel: NVIDIA CUDA\nSHA256:\n {told}\n")
        must(*gpg, "--output", str(place / "InRelease"), "--clearsign", str(release))
        must("gpgconf", "--homedir", str(home), "--kill", "gpg-agent")


def _toolkit(folder: Path, version: str) -> tuple[str, bytes]:
    """The toolkit: a compiler that says its version, and a driver to link with that is none."""
    home = folder / f"usr/local/cuda-{version}"
    _write(home / "bin/nvcc", f"#!/bin/sh\necho nvcc {version}\n").chmod(0o755)
    stub = home / "lib64/stubs/libcuda.so"
    source = _write(folder.with_name("stub.c"), "int driver(void) { return 0; }\n")
    stub.parent.mkdir(parents=True)
    must("gcc", "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libcuda.so.1", "-o", str(stub), str(source))
    return _package(folder, f"cuda-toolkit-{version.replace('.', '-')}", f"{version}.2-1", "amd64")


def _node(archive: Path) -> None:
    """Node.js, which makes one header of the server's pages."""
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:xz") as packed:
        entry = tarfile.TarInfo(f"{_NODE}/bin/node")
        entry.size, entry.mode = len(_UI), 0o755
        packed.addfile(entry, io.BytesIO(_UI.encode()))


def _llama(place: Path) -> None:
    """The repository, as git clones it from a server of files."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "work")
        shutil.copytree(Path(__file__).parents[1] / "llama_cpp", work)
        git = ("git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@example.org")
        must(*git, "init", "-q", "-b", "master")
        must(*git, "add", ".")
        must(*git, "commit", "-q", "-m", "first")
        must("git", "clone", "-q", "--bare", str(work), str(place))
        must("git", "-C", str(place), "update-server-info")


def _package(folder: Path, name: str, version: str, arch: str) -> tuple[str, bytes]:
    """A package of what is in ``folder``: what it says of itself, and its file."""
    about = f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\nMaintainer: flyted\nDescription: {name}\n"
    _write(folder / "DEBIAN/control", about)
    made = folder.with_name(f"{name}.deb")
    must("dpkg-deb", "--build", "--root-owner-group", str(folder), str(made))
    return about, made.read_bytes()


def _file(package: tuple[str, bytes]) -> str:
    said = dict(line.split(": ", 1) for line in package[0].splitlines())
    return f"{said['Package']}_{said['Version']}_{said['Architecture']}.deb"


def _entry(package: tuple[str, bytes]) -> str:
    """Its entry in the index (deb822(5))."""
    about, data = package
    return f"{about}Filename: ./{_file(package)}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
