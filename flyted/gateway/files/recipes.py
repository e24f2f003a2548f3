"""Stores what each image is made of, by its name. The client makes the name, of a digest of the layers."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from flyted.contract.errors import InvalidInput
from flyted.contract.names import GATEWAY_HOST, printable
from flyted.gateway.files.whole import oldest, replace, stored

KEPT = 500
CURE = "remove registry= from the image: flyted has no registry"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
GUESS = "localhost:30000/"
"""Flyte 2.10 puts this before a name if the endpoint has "localhost" in it; the user has not named a registry."""


def checked(name: str) -> str:
    """Return the name, ``NAME:TAG`` as the SDK makes it, without the registry of :data:`GUESS`.

    Raise :class:`InvalidInput` for any other text.
    """
    name = name.removeprefix(GUESS)
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(f"image name {printable(name)} is not valid: NAME:TAG, without a registry", hint=CURE)
    return name


def uri_of(name: str) -> str:
    """Return the address by which an app names an image."""
    return f"{GATEWAY_HOST}/{name}"


def name_of(uri: str) -> str | None:
    """Return the name in an address of the gateway's own; ``None`` for any other address."""
    name = uri.removeprefix(f"{GATEWAY_HOST}/")
    return name if name != uri and _NAME.fullmatch(name) else None


class Recipes:
    """The folder of recipes, one file per name, the ``KEPT`` last used: of a served app flyted has its own copy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def keep(self, name: str, image: dict[str, Any]) -> None:
        """Store what the image ``name`` is made of: ``{"spec": ImageSpec in protobuf-JSON, "files": …}``.

        Delete the least recently used recipes beyond ``KEPT``. Raise :class:`~flyted.contract.errors.HostFailure` if
        the file cannot be written.
        """
        with stored("what the image is made of"):
            replace(self._path(name), json.dumps({"name": name, "image": image}).encode())
            for path in oldest(self._folder, KEPT):
                path.unlink(missing_ok=True)

    def find(self, name: str) -> dict[str, Any] | None:
        """Return what the image ``name`` is made of, None if it is not known; note that it was used now."""
        path = self._path(name)
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())["image"]
            os.utime(path)
        except (OSError, ValueError, KeyError):
            return None
        return found

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()}.json"
