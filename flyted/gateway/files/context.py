"""Reads what a client sends for an image: ``spec.pb`` (Flyte's ImageSpec), ``context.tar.gz`` (files that it names).

The description is read in memory, within bounds; the context is never unpacked to files (``archive.py``).
"""

from __future__ import annotations

import platform
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flyteidl2.imagebuilder import definition_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from flyted.contract.app import MAX_LAYERS
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import printable
from flyted.contract.wire import REQUEST_LIMIT
from flyted.gateway.files.archive import Archive, opened
from flyted.gateway.files.folders import Folders
from flyted.gateway.files.whole import reading, stored
from flyted.gateway.idl import newer

SPEC_BYTES = 1 << 20
TEXT_BYTES = REQUEST_LIMIT
"""The limit of all requirements files together, which flyted gets in one request."""
MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}


def image_of(spec: Path, context: Path | None, folders: Folders) -> dict[str, Any]:
    """Return what flyted makes an image of, and store bundles of what its layers copy in ``folders``.

    That is ``{"spec": ImageSpec in protobuf-JSON, "files": name → text of a requirements file, "folders": path →
    SHA-256 of a bundle}``. ``spec`` and ``context`` are the two uploaded files. Raise :class:`InvalidInput` for files
    that are too large or cannot be read, and for too many layers; :class:`Unsupported` for unknown fields and for an
    image for another machine; :class:`~flyted.contract.errors.NotFound` if an uploaded file is gone, and
    :class:`~flyted.contract.errors.HostFailure` if the disk is full.
    """
    with reading(spec) as file:
        data = file.read(SPEC_BYTES + 1)
    if len(data) > SPEC_BYTES:
        raise InvalidInput(f"the image's description may be at most {SPEC_BYTES >> 20} MiB")
    message = definition_pb2.ImageSpec()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise InvalidInput("the image's description is not an ImageSpec") from error
    if len(message.layers) > MAX_LAYERS:  # before anything is done for each of them
        raise InvalidInput(
            f"the image has {len(message.layers)} layers; the limit is {MAX_LAYERS}",
            hint="give several packages or commands to one call, such as with_pip_packages('a', 'b')",
        )
    newer.check(message, "the image's description")
    described: dict[str, Any] = MessageToDict(message)
    _check_platform(described.pop("platform", []))
    wanted = {layer.requirements.file for layer in message.layers if layer.HasField("requirements")}
    if context is None:
        if wanted:
            raise InvalidInput("the files that the image refers to were not sent")
        return {"spec": described, "files": {}, "folders": {}}
    with reading(context) as packed, stored("what the image copies"), opened(packed, folders.place) as archive:
        return {"spec": described, "files": _texts(archive, wanted), "folders": folders.keep(described, archive)}


def add_login(image: dict[str, Any], secrets: Iterable[tuple[str, str]]) -> None:
    """Note the secret of ``registry_secret=`` in an image. ``secrets``: group and key of all secrets of its build.

    The SDK sends it among those of the layers, and nothing says which it is (remote_builder.py,
    _get_build_secrets_from_image): it is the one that no layer names. One that a layer names, too, is sent once, like
    all others of layers, so it cannot be told from them: see :func:`login_note`.
    """
    named = _named_by_layers(image)
    for group, key in secrets:
        if (group, key) not in named:
            image["spec"]["registrySecret"] = {"key": key, **({"group": group} if group else {})}


def login_note(image: dict[str, Any]) -> str:
    """Return what a user should know who may have named a secret of the registry that the SDK has not sent as one.

    Return "" for an image on Flyte's own base, which wants no login, and where no secret of a layer can be meant.
    """
    spec = image["spec"]
    base, named = str(spec.get("baseImage", "")), sorted(key for _group, key in _named_by_layers(image))
    if not named or "registrySecret" in spec or base.startswith("ghcr.io/flyteorg/flyte:"):
        return ""
    return (
        f"{printable(base)} is pulled without a login: Flyte does not say if the registry_secret is one of those that "
        f"layers mount, too ({', '.join(map(printable, named))}); if it is, store it under a name of its own"
    )


def _named_by_layers(image: dict[str, Any]) -> set[tuple[str, str]]:
    bodies = [body for layer in image["spec"].get("layers", []) for body in layer.values()]
    return {(use.get("group", ""), use.get("key", "")) for body in bodies for use in body.get("secretMounts", [])}


def _check_platform(asked: list[str]) -> None:
    own = MACHINES.get(platform.machine(), platform.machine())
    if asked and own not in asked:
        raise Unsupported(
            f"the image is for {', '.join(map(printable, asked))}; this machine is {own}",
            hint="remove platform= from the image",
        )


def _texts(archive: Archive, names: Iterable[str]) -> dict[str, str]:
    """Return the texts of those requirements files that are in the archive, by name."""
    found: dict[str, str] = {}
    left = TEXT_BYTES
    for name in sorted(names):
        member = archive.members.get(posixpath.normpath(name))
        if member is None or not member.isreg():
            continue
        left -= member.size  # many names may mean the same file
        if left < 0:
            raise InvalidInput(
                f"the image's requirements files are more than {TEXT_BYTES >> 10} KiB",
                hint="leave hashes out of them: uv export --no-hashes",
            )
        try:
            found[name] = archive.content(member).read().decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"the image's file {printable(name)} is not UTF-8 text") from error
    return found
