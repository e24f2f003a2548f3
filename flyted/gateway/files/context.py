"""Reads what a client sends for an image: ``spec.pb`` (Flyte's ImageSpec), ``context.tar.gz`` (files that it names).

Both are read in memory, within bounds; nothing is ever unpacked to disk here.
"""

from __future__ import annotations

import io
import platform
import tarfile
import zlib
from pathlib import Path
from typing import Any

from flyteidl2.imagebuilder import definition_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import printable
from flyted.gateway.idl import newer
from flyted.gateway.limits import inflate

SPEC_BYTES = 1 << 20
CONTEXT_BYTES = 32 << 20
FILE_BYTES = 1 << 20
MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}


def image_of(spec: Path, context: Path | None) -> dict[str, Any]:
    """Return ``{"spec": ImageSpec in protobuf-JSON, "files": name → text of a requirements file}``.

    ``spec`` and ``context`` are the two uploaded files. Raise :class:`InvalidInput` for files that are too large or
    cannot be read, and :class:`Unsupported` for unknown fields and for an image for another machine.
    """
    data = _small(spec, SPEC_BYTES, "the image's description")
    message = definition_pb2.ImageSpec()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise InvalidInput("the image's description is not an ImageSpec") from error
    newer.check(message, "the image's description")
    described: dict[str, Any] = MessageToDict(message)
    _check_platform(described.pop("platform", []))
    wanted = {layer.requirements.file for layer in message.layers if layer.HasField("requirements")}
    return {"spec": described, "files": _files(context, wanted) if wanted else {}}


def _check_platform(asked: list[str]) -> None:
    own = MACHINES.get(platform.machine(), platform.machine())
    if asked and own not in asked:
        raise Unsupported(
            f"the image is for {', '.join(map(printable, asked))}; this machine is {own}",
            hint="remove platform= from the image",
        )


def _files(context: Path | None, wanted: set[str]) -> dict[str, str]:
    if context is None:
        raise InvalidInput("the files that the image refers to were not sent")
    found: dict[str, str] = {}
    try:
        data = inflate(_small(context, CONTEXT_BYTES, "the image's files"), CONTEXT_BYTES)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if member.name in wanted and member.isreg():
                    found[member.name] = _text(archive, member)
    except (OverflowError, EOFError, zlib.error, tarfile.TarError) as error:
        too_large = isinstance(error, OverflowError)
        why = f"are more than {CONTEXT_BYTES >> 20} MiB" if too_large else "are not a tar.gz archive"
        raise InvalidInput(f"the image's files {why}") from error
    return found


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    name = printable(member.name)
    if member.size > FILE_BYTES:
        raise InvalidInput(f"the image's file {name} is larger than {FILE_BYTES >> 20} MiB")
    file = archive.extractfile(member)
    try:
        return file.read().decode() if file else ""
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the image's file {name} is not UTF-8 text") from error


def _small(path: Path, limit: int, what: str) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InvalidInput(f"{what} may be at most {limit >> 20} MiB")
    return data
