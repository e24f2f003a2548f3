"""Packs what an image's layers copy: a bundle for each file or folder that they name, so that each has its own digest.

A layer is built again only if the bundles that it reads have changed. So a Dockerfile's ``COPY requirements.txt .``
reads a bundle of that file, and not of the whole folder. (The text of a requirements layer is in the document itself.)
Of an image that names more paths than a request can carry, the whole folder is one bundle.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bundle import packed, unreadable
from .sdk import find

if TYPE_CHECKING:
    from collections.abc import Iterator

WHAT = "the image's files"
HINT = "copy fewer files; name the others in .dockerignore"
MOST = 31  # bundles of one image: with the code as many as a request carries (flyted/contract/bundles.py)
_WORD = re.compile(r"[^\s,=\"'\[\]]+")
_COPIES = re.compile(r"^\s*(?:COPY|ADD)\b|type=bind", re.IGNORECASE | re.MULTILINE)
_PROJECT = ("pyproject.toml", "setup.py")


def of_spec(spec: dict[str, Any], context: Path) -> dict[str, bytes]:
    """Return the bundles of an ImageSpec by the paths in it. ``context``: the folder that the SDK has filled.

    Raise LoadError("bundle") for more than a bundle may hold, and for a file that cannot be read.
    """
    paths = dict.fromkeys(
        os.path.normpath(path) for layer in spec.get("layers", []) for path in _named(layer, context)
    )
    there = [path for path in paths if (context / path).exists()]
    there = there if len(there) <= MOST else ["."]
    return {path: _bundle(context, path, list(_files(context / path, context))) for path in there}


def of_dockerfile(text: str, root: Path, ignored: list[str]) -> dict[str, bytes]:
    """Return the bundles of a Dockerfile's context: of each path that its text names, and of the whole folder.

    ``ignored``: the patterns of .dockerignore. Raise as :func:`of_spec`.
    """
    if _COPIES.search(text) is None:
        return {}
    every = _walked(root, ignored)
    words = {os.path.normpath(word).lstrip("/") for word in _WORD.findall(text)}
    found = {"."} | {word for word in words if word in every or any(each.startswith(f"{word}/") for each in every)}
    found = found if len(found) <= MOST else {"."}
    return {path: _bundle(root, path, [each for each in every if _below(each, path)]) for path in sorted(found)}


def _below(name: str, path: str) -> bool:
    return path in {".", name} or name.startswith(f"{path}/")


def _bundle(root: Path, path: str, names: list[str]) -> bytes:
    """Return a bundle with files of ``root``; each is named from the last part of ``path`` on."""
    above = os.path.dirname(path)  # noqa: PTH120 -- a name, not a file
    return packed({os.path.relpath(name, above or "."): str(root / name) for name in names}, WHAT, HINT, links=True)


def _walked(root: Path, ignored: list[str]) -> dict[str, None]:
    """Return the files and links below a folder that no pattern leaves out, by Docker's rules."""
    matcher = find("flyte._internal.imagebuild.docker", "PatternMatcher")(ignored)
    try:
        names = [str(name) for name in matcher.walk(str(root))]
    except OSError as error:
        raise unreadable(error, WHAT) from error
    return dict.fromkeys(sorted(name for name in names if (root / name).is_symlink() or (root / name).is_file()))


def _files(place: Path, root: Path) -> Iterator[str]:
    if place.is_file():
        yield str(place.relative_to(root))
        return
    for file in sorted(place.rglob("*")):
        if file.is_symlink() or file.is_file():
            yield str(file.relative_to(root))


def _named(layer: dict[str, Any], context: Path) -> Iterator[str]:
    """Yield the paths of the context that a layer reads, as ``plan/images/from_spec.py`` of flyted names them."""
    ((kind, body),) = layer.items()
    match kind:
        case "pythonWheels":
            yield body["dir"]
        case "copyConfig":
            yield body["src"]
        case "poetryProject":
            yield from (body["pyproject"], body["poetryLock"])
        case "uvProject":
            yield from _of_uv(body, context)
        case _:
            return


def _of_uv(body: dict[str, Any], context: Path) -> Iterator[str]:
    """Yield the paths of a uv project, and name its editable dependencies in ``editable``, which the IDL has not."""
    project = body.get("pyproject", ".")
    yield from [body["uvlock"]] if body.get("uvlock") else []
    if "--no-install-project" not in body.get("options", {}).get("extraArgs", ""):
        yield project
        return
    yield os.path.normpath(f"{project}/pyproject.toml")
    found: list[Path] = []
    for file in sorted(
        (context / body.get("sourceDir", project)).rglob("*"), key=lambda file: (len(file.parts), file)
    ):
        new = file.parent != context / project and not any(file.is_relative_to(other) for other in found)
        found += [file.parent] if file.name in _PROJECT and new else []
    body["editable"] = [str(folder.relative_to(context)) for folder in found]
    yield from body["editable"]
