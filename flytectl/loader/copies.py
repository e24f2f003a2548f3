"""Checks what an image's layers copy before the SDK copies it: that it is there, and that it is not too large.

The SDK leaves out what it cannot read, and copies a folder of any size into /tmp.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bundle import LARGEST
from .failure import LoadError
from .sdk import find

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUILDER, _COPY = "flyte._internal.imagebuild.remote_builder", "copy_files_to_context"
_ABSOLUTE = "_flyte_abs_context"  # where the SDK puts what has an absolute path (copy_files_to_context)
_METHODS = {
    "Requirements": "with_requirements", "UVProject": "with_uv_project", "PoetryProject": "with_poetry_project",
    "PixiProject": "with_pixi_project", "UVScript": "from_uv_script", "PixiScript": "from_pixi_script",
    "PythonWheels": "local wheels",
}  # fmt: skip


def check(environment: Any, image: Any) -> None:
    """Raise LoadError("environment") for a layer whose file, folder or wheel is not there."""
    for layer in getattr(image, "_layers", ()):
        try:
            layer.validate()
            if type(layer).__name__ == "PythonWheels":
                _check_wheel(layer.wheel_dir, layer.package_name)
        except Exception as error:
            raise LoadError(
                "environment",
                f"{environment.name}: {_named(layer)}: {error}",
                hint=f"relative paths start from {Path.cwd()}; for a path beside the file, write "
                'Path(__file__).parent / "…"',
            ) from error


@contextlib.contextmanager
def bounded(environment: Any) -> Iterator[None]:
    """Make the SDK copy no more than a bundle may hold, while the block runs, and nothing that cannot be read.

    Its copying then raises LoadError("bundle").
    """
    copy = find(_BUILDER, _COPY)
    left = LARGEST

    def checked(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        given = inspect.signature(copy).bind(*args, **kwargs)
        given.apply_defaults()
        left = _room(environment, Path(given.arguments["src"]), given.arguments["ignore_patterns"], left)
        return copy(*args, **kwargs)

    module = sys.modules[_BUILDER]
    setattr(module, _COPY, checked)
    try:
        yield
    finally:
        setattr(module, _COPY, copy)


@contextlib.contextmanager
def own_tmp(context: Path, own: Path) -> Iterator[None]:
    """Make the SDK write its own temporary files to ``own``, while the block runs; make both folders.

    It writes the manifest of a pixi script to /tmp, to a folder whose name anybody can know, and takes before.
    """
    before = tempfile.tempdir
    for folder in (context, own):
        folder.mkdir()
    tempfile.tempdir = str(own)
    try:
        yield
    finally:
        tempfile.tempdir = before


def name_as_in_tmp(spec: dict[str, Any], context: Path, own: Path) -> None:
    """Name what the SDK has copied from ``own`` into ``context`` as if it came from where it usually writes it.

    So an image is the same at each time, and the same as that of ``flyte deploy``.
    """
    made, usual = (f"{_ABSOLUTE}{folder}" for folder in (own, tempfile.gettempdir()))
    if not (context / made).is_dir():
        return
    for folder in (context / made).iterdir():
        folder.rename(context / usual / folder.name)
    for body in (layer["copyConfig"] for layer in spec["layers"] if "copyConfig" in layer):
        if body["src"].startswith(f"{made}/"):
            body["src"] = f"{usual}{body['src'].removeprefix(made)}"


def _room(environment: Any, source: Path, ignored: list[str], left: int) -> int:
    """Return how many of ``left`` bytes a source leaves. Raise LoadError("bundle") if it takes more."""
    matcher = find("flyte._internal.imagebuild.docker", "PatternMatcher")(ignored)
    try:
        files = (source / name for name in matcher.walk(str(source))) if source.is_dir() else [source]
        for file in files:
            if not file.is_file():
                continue
            left -= file.stat().st_size
            if left < 0:
                raise LoadError(
                    "bundle",
                    f"{environment.name}: what the image copies is larger than {LARGEST >> 20} MiB: {source} does not "
                    "fit",
                    hint="copy fewer files, name others in .dockerignore, or have with_commands([…]) download them",
                )
            if not os.access(file, os.R_OK):
                raise PermissionError(13, "Permission denied", str(file))
    except OSError as error:
        raise LoadError(
            "bundle",
            f"{environment.name}: {error.filename} cannot be read for the image: {error.strerror}",
            hint="check its permissions (ls -l), or name it in .dockerignore",
        ) from error
    return left


def _check_wheel(folder: Path, package: str) -> None:
    """Raise FileNotFoundError for a folder without a wheel of a package: an index would be asked for it."""
    wheels = sorted(path.name for path in folder.glob("*.whl"))
    if _project(package) not in {_project(name.partition("-")[0]) for name in wheels}:
        there = (
            f"it has {', '.join(wheels[:5])}" if wheels else "it has none" if folder.is_dir() else "it does not exist"
        )
        raise FileNotFoundError(f"{folder} has no wheel of {package}: {there}")


def _project(name: str) -> str:
    """Return a project's name as PEP 503 compares it, without extras and version."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", name.strip())[0]).lower()


def _named(layer: Any) -> str:
    """Return what the user wrote to get a layer."""
    kind = type(layer).__name__
    if kind == "CopyConfig":
        return "with_source_folder" if layer.path_type else "with_source_file"
    return _METHODS.get(kind, kind)
