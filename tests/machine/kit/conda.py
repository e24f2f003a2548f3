"""A conda channel for tests: packages made here, among them a Python that works wherever it is installed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from tests.machine.kit.units import must, sh

CHANNEL = "https://conda.anaconda.org/conda-forge"
SUBDIR = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[os.uname().machine]
PLACEHOLDER = "/opt/placeholder_of_the_prefix_" + "x" * 40
_SUITE, VERSION = "bookworm", "3.11"  # of the images that the SDK starts from, with Debian's own Python
_OF_PYTHON = f"python{VERSION}-minimal,libpython{VERSION}-stdlib"
_OURS = re.compile(rf"usr/bin/python{VERSION}|usr/lib/python{VERSION}/(?!EXTERNALLY-MANAGED|sitecustomize).*")

_SITE = b"""
import os, site
site.addsitedir(os.path.join(os.path.dirname(__file__), "site-packages"))
"""


@dataclass(frozen=True)
class Package:
    """A package. ``files``: path → content, or where a link leads; those of ``prefixed`` have :data:`PLACEHOLDER`.

    ``python``: it is for any Python. ``programs``: as ``greet = greeting:main``.
    """

    name: str
    version: str
    files: dict[str, bytes | str]
    depends: tuple[str, ...] = ()
    prefixed: tuple[str, ...] = ()
    python: bool = False
    programs: tuple[str, ...] = ()
    build: str = "0"

    @property
    def subdir(self) -> str:
        """The folder of the channel that it lies in."""
        return "noarch" if self.python else SUBDIR

    @property
    def file(self) -> str:
        """Its name there."""
        return f"{self.name}-{self.version}-{self.build}.conda"

    @property
    def index(self) -> dict[str, Any]:
        """What it says of itself."""
        about = {
            "name": self.name, "version": self.version, "build": self.build, "build_number": 0,
            "depends": list(self.depends), "subdir": self.subdir, "timestamp": 1_700_000_000_000,
        }  # fmt: skip
        return {**about, **({"noarch": "python"} if self.python else {})}


@dataclass
class Channel:
    """A folder as a web server offers it. ``made``: the entry of each package in its index."""

    folder: Path
    made: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, package: Package) -> None:
        """Put a package there, and into the index."""
        place = self.folder / package.subdir
        place.mkdir(parents=True, exist_ok=True)
        data = _packed(package)
        (place / package.file).write_bytes(data)
        digests = {name: hashlib.new(name, data).hexdigest() for name in ("md5", "sha256")}
        self.made[package.file] = {**package.index, **digests, "size": len(data)}
        for subdir in ("noarch", SUBDIR):
            known = {name: entry for name, entry in self.made.items() if entry["subdir"] == subdir}
            index = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": known, "repodata_version": 1}
            (self.folder / subdir).mkdir(exist_ok=True)
            (self.folder / subdir / "repodata.json").write_text(json.dumps(index))

    def lock(self, environment: str, *files: str) -> str:
        """A pixi.lock, of these packages."""
        urls = [f"{CHANNEL}/{self.made[file]['subdir']}/{file}" for file in files]
        lines = ["version: 6", "environments:", f"  {environment}:", "    channels:", f"    - url: {CHANNEL}/"]
        lines += ["    packages:", f"      {SUBDIR}:", *(f"      - conda: {url}" for url in urls), "packages:"]
        for url, file in zip(urls, files, strict=True):
            entry = self.made[file]
            lines.append(f"- conda: {url}")
            lines += [f"  {name}: {entry[name]}" for name in ("sha256", "md5", "size")]
            lines += ["  noarch: python"] if "noarch" in entry else []
            lines += ["  depends:", *(f"  - {each}" for each in entry["depends"])] if entry["depends"] else []
        return "\n".join(lines) + "\n"


def python() -> Package:
    """A Python with its library, which is found from where the program lies.

    It is Debian's, but keeps packages where everybody else's does. (Its own site.py is frozen in the program.)
    """
    place = Path("/srv/flyted-test-python")
    shutil.rmtree(place, ignore_errors=True)
    mirror = sh("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian").split()
    settings = Path("/etc/apt/apt.conf.d/99mmdebstrap")
    more = [f"--aptopt={settings}"] if settings.exists() else []
    must("unshare", "--mount", "mmdebstrap", "--quiet", "--variant=extract", "--mode=root", *more,
         f"--include={_OF_PYTHON}", _SUITE, str(place), mirror[0])  # fmt: skip
    found = dict(_files(place))
    shutil.rmtree(place)
    library = f"lib/python{VERSION}"
    schemes = found[f"{library}/sysconfig.py"]
    assert isinstance(schemes, bytes)
    found[f"{library}/sysconfig.py"] = schemes.replace(b"scheme = 'posix_local'", b"scheme = 'posix_prefix'")
    found[f"{library}/sitecustomize.py"] = _SITE
    found["bin/python3"] = found["bin/python"] = f"python{VERSION}"
    found["bin/pydoc3"] = f"#!{PLACEHOLDER}/bin/python{VERSION}\nimport pydoc\npydoc.cli()\n".encode()
    return Package("python", f"{VERSION}.2", found, prefixed=("bin/pydoc3",), build="0_cpython")


def noarch(name: str, version: str) -> Package:
    """A package for any Python, with one module, and a program that prints its version."""
    module = f"VERSION = '{version}'\n\ndef main():\n    print(VERSION)\n".encode()
    depends, programs = ("python >=3.10",), (f"{name} = {name}:main",)
    return Package(name, version, {f"site-packages/{name}.py": module}, depends, python=True, programs=programs)


def _files(root: Path) -> Iterator[tuple[str, bytes | str]]:
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not _OURS.fullmatch(name) or (path.is_dir() and not path.is_symlink()):
            continue
        target = path.readlink() if path.is_symlink() else None
        if target is not None and not target.is_absolute() and (path.parent / target).exists():
            yield name.removeprefix("usr/"), str(target)
        elif target is None:
            yield name.removeprefix("usr/"), path.read_bytes()


def _packed(package: Package) -> bytes:
    """A package of format 2 (conda's CEP 2)."""
    stem = package.file.removesuffix(".conda")
    info = {"info/index.json": json.dumps(package.index).encode(), "info/paths.json": _paths(package)}
    if package.python:
        link = {"noarch": {"type": "python", "entry_points": list(package.programs)}, "package_metadata_version": 1}
        info["info/link.json"] = json.dumps(link).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
        archive.writestr(f"pkg-{stem}.tar.zst", _tar(package.files))
        archive.writestr(f"info-{stem}.tar.zst", _tar(info))
    return out.getvalue()


def _paths(package: Package) -> bytes:
    paths = [_entry(package, *each) for each in package.files.items()]
    return json.dumps({"paths_version": 1, "paths": paths}).encode()


def _entry(package: Package, path: str, content: bytes | str) -> dict[str, Any]:
    if isinstance(content, str):
        return {"_path": path, "path_type": "softlink"}
    entry = {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(content).hexdigest()}
    more = {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"} if path in package.prefixed else {}
    return {**entry, "size_in_bytes": len(content), **more}


def _tar(files: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if name.startswith("bin/") else 0o644
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return zstandard.compress(out.getvalue())
