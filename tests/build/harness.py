"""What the builder's tests share: packages made on the spot, and the builder run as its unit would."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUILDER = ROOT / "flyted" / "build"
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
EX_ISOLATED = 3
HASH = "0123456789abcdef" * 2

BACKEND = """
import os, pathlib, zipfile
def build_wheel(folder, settings=None, metadata=None):
    {during}
    name = "{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        wheel.writestr("{name}.py", "")
        info = "{name}-{version}.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


def find_uv() -> str:
    """The uv beside this Python, or of the system."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv") or ""


def wheel(
    folder: Path, name: str, version: str = "1.0", files: dict[str, str] | None = None, mode: int = 0o644
) -> None:
    """A wheel of pure Python in ``folder``."""
    info = f"{name}-{version}.dist-info"
    content = {
        **(files if files is not None else {f"{name}.py": f"VERSION = {version!r}\n"}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in content.items()] + [f"{info}/RECORD,,"]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**content, f"{info}/RECORD": "\n".join(rows) + "\n"}.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, text)


def source(folder: Path, name: str, during: str, version: str = "1.0") -> None:
    """A source package with a build backend of its own that runs ``during`` and needs nothing from an index."""
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND.format(during=during, name=name, version=version),
        "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
    }
    with tarfile.open(folder / f"{name}-{version}.tar.gz", "w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True)
class Builds:
    """A folder for images, one for packages, and the builder run on them."""

    base: Path

    @property
    def packages(self) -> Path:
        return self.base / "packages"

    @property
    def images(self) -> Path:
        return self.base / "images"

    def image(self, digest: str = HASH) -> Path:
        return self.images / digest

    def record(self, digest: str = HASH) -> dict[str, Any]:
        """``image.json`` of an image."""
        return dict(json.loads((self.image(digest) / "image.json").read_text()))

    def recipe(self, *layers: list[str], python: str = PYTHON, options: tuple[str, ...] = ("--no-index",)) -> None:
        """The credential that a unit would have; each layer finds the packages made here, and no index."""
        installs = [
            {
                "source": f"layer {number}",
                "requirements": layer,
                "options": [*options, "--find-links", str(self.packages)],
            }
            for number, layer in enumerate(layers, 1)
        ]
        content = {"format": 1, "python": python, "installs": installs}
        (self.base / "credentials").mkdir(exist_ok=True)
        (self.base / "credentials/recipe").write_text(json.dumps(content))

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """The builder with ``words``, as a process group of its own."""
        environment = {
            # the folder of the Python that these tests run with: there is always one to find
            "PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin",
            "STATE_DIRECTORY": str(self.images),
            "CREDENTIALS_DIRECTORY": str(self.base / "credentials"),
            **{n: v for n, v in os.environ.items() if n.startswith(("SSL_", "http", "HTTP", "no_proxy", "NO_PROXY"))},
            **more,
        }
        command = [sys.executable, "-I", str(BUILDER), "--uv", find_uv(), *words]
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    def start_apart(self, *words: str) -> subprocess.Popen[str]:
        """The build that goes on where one of wheels alone could not."""
        status, output = self.once(*words)
        assert status == EX_ISOLATED, output
        return self.start(*words, "--isolated")

    def once(self, *words: str, **more: str) -> tuple[int, str]:
        """Exit status and all output."""
        with self.start(*words, **more) as process:
            output, _ = process.communicate(timeout=120)
            return process.returncode, output

    def run(self, *words: str, **more: str) -> tuple[int, str]:
        """As the daemon does it: where code of packages has to run, an isolated build goes on."""
        words = words or ("--image", HASH)
        status, output = self.once(*words, **more)
        if status != EX_ISOLATED:
            return status, output
        status, more_output = self.once(*words, "--isolated", **more)
        return status, output + more_output

    def python(self, code: str, digest: str = HASH) -> str:
        """What ``code`` prints in the image's Python."""
        command = [str(self.image(digest) / "bin/python"), "-I", "-c", code]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
