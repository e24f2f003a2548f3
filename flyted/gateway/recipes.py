"""What the images are made of whose names we gave out. A name holds a digest of the layers, made by the client."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from pathlib import Path
from typing import Any

from flyted.contract.errors import InvalidInput
from flyted.contract.names import GATEWAY_HOST, shown

KEPT = 500
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


GUESS = "localhost:30000/"
"""Flyte 2.10 puts this before a name when the endpoint has "localhost" in it: nobody asked for a registry."""


def checked(name: str) -> str:
    """``NAME:TAG`` as the SDK makes it. Raises :class:`InvalidInput`."""
    name = name.removeprefix(GUESS)
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(f"image name {shown(name)} is not valid: NAME:TAG, without a registry", hint=CURE)
    return name


CURE = "drop registry= of the image: there is none here"


def uri_of(name: str) -> str:
    """How an app names the image."""
    return f"{GATEWAY_HOST}/{name}"


def name_of(uri: str) -> str | None:
    """The name in our own addresses; ``None`` for any other."""
    name = uri.removeprefix(f"{GATEWAY_HOST}/")
    return name if name != uri and _NAME.fullmatch(name) else None


class Recipes:
    """A file per name, the newest few hundred: an app that is served keeps its own copy in flyted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def keep(self, name: str, image: dict[str, Any]) -> None:
        """Remembers what ``name`` is made of: ``{"spec": ImageSpec in protobuf-JSON, "files": …}``."""
        replace(self._path(name), json.dumps({"name": name, "image": image}).encode())
        files = sorted(self._folder.glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)
        for path in files[:-KEPT]:
            path.unlink(missing_ok=True)

    def find(self, name: str) -> dict[str, Any] | None:
        """The image of a name, used from now on."""
        path = self._path(name)
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())["image"]
            os.utime(path)
        except (OSError, ValueError, KeyError):
            return None
        return found

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()}.json"


def replace(path: Path, data: bytes) -> None:
    """Writes a file as a whole, or not at all."""
    aside = path.with_name(f".{secrets.token_hex(8)}")
    try:
        aside.write_bytes(data)
        aside.rename(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
