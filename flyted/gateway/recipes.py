"""Stores what each image is made of, by its name. The client makes the name, of a digest of the layers."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flyted.contract.errors import HostFailure, InvalidInput
from flyted.contract.names import GATEWAY_HOST, shown

KEPT = 500
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


GUESS = "localhost:30000/"
"""Flyte 2.10 puts this before a name if the endpoint has "localhost" in it; the user has not named a registry."""


def checked(name: str) -> str:
    """Return the name, ``NAME:TAG`` as the SDK makes it, without the registry of :data:`GUESS`.

    Raise :class:`InvalidInput` for any other text.
    """
    name = name.removeprefix(GUESS)
    if _NAME.fullmatch(name) is None:
        raise InvalidInput(f"image name {shown(name)} is not valid: NAME:TAG, without a registry", hint=CURE)
    return name


CURE = "drop registry= of the image: there is none here"


CURE_OF_A_DISK = "make room below /var/lib/private/flyted-gateway (df -h /var/lib), then try again"


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

        Delete the least recently used recipes beyond ``KEPT``. Raise :class:`HostFailure` if
        the file cannot be written.
        """
        with stored("what the image is made of"):
            replace(self._path(name), json.dumps({"name": name, "image": image}).encode())
            files = sorted(self._folder.glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)
            for path in files[:-KEPT]:
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


@contextlib.contextmanager
def stored(what: str) -> Iterator[None]:
    """Raise :class:`HostFailure` for an OSError in the block, which stores ``what``."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full" if full else error.strerror or type(error).__name__
        raise HostFailure(f"the gateway cannot store {what}: {why}", hint=CURE_OF_A_DISK) from error


def replace(path: Path, data: bytes) -> None:
    """Write a file as a whole, or not at all. Raise OSError if it cannot be written."""
    aside = path.with_name(f".{secrets.token_hex(8)}")
    try:
        aside.write_bytes(data)
        aside.rename(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
