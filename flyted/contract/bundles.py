"""Checks the bundles of a request: files whose descriptors come with it, each named by the SHA-256 of its content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flyted.contract.errors import InvalidInput

MOST = 32
"""Bundles of one request: an app's code, and what its image copies. Linux allows 253 descriptors in one message."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def checked(digests: object) -> tuple[str, ...]:
    """Return the digests of a request's bundles.

    Raise :class:`InvalidInput` for more than ``MOST``, for one that comes twice, and for what is no SHA-256.
    """
    found = digests if isinstance(digests, list) else [digests]
    if not all(isinstance(each, str) and _SHA256.fullmatch(each) for each in found):
        raise InvalidInput("a bundle must be named by its SHA-256: 64 hexadecimal digits")
    if len(set(found)) != len(found):
        raise InvalidInput("a request names a bundle twice")
    if len(found) > MOST:
        raise InvalidInput(
            f"{len(found)} bundles are too many for one request; the limit is {MOST}",
            hint="have the image copy fewer files and folders: one folder that contains them, for example",
        )
    return tuple(found)


def image_of(
    image: Mapping[str, Any] | None, files: Mapping[str, str] | None, folders: Mapping[str, str] | None
) -> dict[str, Any]:
    """Return an image as ``AppSpec.image`` and ``image.build`` have it; see ``idl.spec_of`` for the arguments."""
    copied = {"folders": dict(folders)} if folders else {}
    return {"spec": dict(image or {}), "files": dict(files or {}), **copied}


def of_image(image: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the digests of what an image copies. Raise :class:`InvalidInput` as :func:`checked`."""
    folders = image.get("folders") or {}
    if not isinstance(folders, Mapping):
        raise InvalidInput("an image's folders must be a map")
    texts = [each if isinstance(each, str) else "" for each in folders.values()]
    return checked(sorted(set(texts)))
