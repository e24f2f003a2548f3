"""Stores what each image is made of, by its name. The client makes the name, of a digest of the layers."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from flyted.contract.bundles import of_image
from flyted.contract.errors import InvalidInput
from flyted.contract.names import GATEWAY_HOST, printable
from flyted.gateway.files.folders import Folders
from flyted.gateway.files.whole import oldest, replace, stored

KEPT = 500
CURE = "remove registry= from the image: flyted has no registry"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = "@flyted:"
_HASH = re.compile(r"[0-9a-f]{32}")
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


def uri_of(name: str, image: str) -> str:
    """Return the address by which an app names an image; it ends with its digest. ``image``: flyted's hash of it.

    The digest is of flyted's own kind, a digest of the layers, since there is no manifest of which a sha256 could be.
    """
    return f"{GATEWAY_HOST}/{name}{DIGEST}{image}"


def name_of(uri: str) -> str | None:
    """Return the name in an address of the gateway's own, with a digest or without; ``None`` for any other address."""
    own = uri.removeprefix(f"{GATEWAY_HOST}/")
    name, at, image = own.partition(DIGEST)
    known = own != uri and _NAME.fullmatch(name) and (not at or _HASH.fullmatch(image))
    return name if known else None


class Recipes:
    """The folder of recipes, one file per name, the ``KEPT`` last used: of a served app flyted has its own copy.

    ``folders``: the bundles with what the images copy.
    """

    def __init__(self, folder: Path, folders: Folders) -> None:
        self._folder, self._folders = folder, folders
        folder.mkdir(mode=0o700, exist_ok=True)

    def keep(self, name: str, image: dict[str, Any], built: str) -> None:
        """Store what the image ``name`` is made of, as :func:`~flyted.gateway.files.context.image_of` gives it.

        ``built``: flyted's hash of the image that it was built as. Delete the least recently used recipes beyond
        ``KEPT``. Raise :class:`~flyted.contract.errors.HostFailure` if the file cannot be written.
        """
        with stored("what the image is made of"):
            replace(self._path(name), json.dumps({"name": name, "image": image, "built": built}).encode())
            for path in oldest(self._folder, KEPT):
                path.unlink(missing_ok=True)

    def find(self, name: str) -> dict[str, Any] | None:
        """Return what the image ``name`` is made of; note that it was used now.

        Return None if it is not known, or if a bundle of what it copies is gone: the client then sends all again.
        """
        path = self._path(name)
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())["image"]
            os.utime(path)
        except (OSError, ValueError, KeyError):
            return None
        return found if self.bundles(found).keys() == set(of_image(found)) else None

    def built_as(self, name: str) -> str:
        """Return flyted's hash of the image that was built last under a name; "" if that is not known."""
        try:
            found = json.loads(self._path(name).read_bytes())["built"]
        except (OSError, ValueError, KeyError):
            return ""
        return str(found)

    def bundles(self, image: dict[str, Any]) -> dict[str, Path]:
        """Return the bundles with what an image copies, by their SHA-256, but for those that are gone."""
        found = {digest: self._folders.find(digest) for digest in of_image(image)}
        return {digest: path for digest, path in found.items() if path is not None}

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()}.json"
