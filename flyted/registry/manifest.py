"""Reads an image's index, manifest and config. Pure; nothing in them is trusted.

Sources: OCI image-spec (manifest.md, image-index.md, config.md), Docker's manifest v2 schema 2.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from .failed import Failed, printable
from .words import EX_DATAERR, EX_UNFIT

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPTED = (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)
CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
LAYERS = tuple(
    f"{name}{compression}"
    for name, compressions in (
        ("application/vnd.oci.image.layer.v1.tar", ("", "+gzip", "+zstd")),
        ("application/vnd.docker.image.rootfs.diff.tar", ("", ".gzip", ".zstd")),
    )
    for compression in compressions
)
MOST_BYTES = 4 << 20
"""Of a manifest, an index and a config (a registry has to take manifests of 4 MiB: OCI distribution-spec)."""
MOST_RUN = 1 << 20
"""Of what a record keeps of a config, as JSON: a record is read by flyted, which reads no more than 4 MiB."""
MOST_LAYERS = 500
_MOST_ENTRIES = 1000
_LARGEST = (1 << 63) - 1
"""Bytes of a blob: a size is an int64 (OCI descriptor.md)."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KEPT = ("Env", "User", "WorkingDir", "Entrypoint", "Cmd", "Volumes", "ExposedPorts", "OnBuild")
"""What a record keeps of a config: how the image's program is run. The plan checks it."""


@dataclass(frozen=True)
class Blob:
    """A part of an image. ``digest``: ``sha256:…``, ``size`` in bytes."""

    digest: str
    media: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """The parts of an image for one platform; the layers lowest first."""

    config: Blob
    layers: tuple[Blob, ...]


def manifest_or_choice(data: bytes, platform: str) -> Manifest | Blob:
    """Return a manifest, or the entry of an index that is for ``platform`` (``linux/amd64``).

    Raises :class:`Failed` for what is neither, for schema 1, no image that runs, and an index without the platform.
    """
    found = _object(data, "manifest")
    if found.get("schemaVersion") == 1:
        raise Failed(
            EX_UNFIT,
            "the image is in Docker's old format, schema 1, which has no checked layers: "
            "push it again with a current client",
        )
    kind = found.get("mediaType")
    if "manifests" in found and not {"layers", "config"} & found.keys() and kind in (None, OCI_INDEX, DOCKER_INDEX):
        return _choice(found["manifests"], platform)
    if (
        {"layers", "config"} <= found.keys()
        and "manifests" not in found
        and kind in (None, OCI_MANIFEST, DOCKER_MANIFEST)
    ):
        return _manifest(found)
    raise Failed(EX_UNFIT, f"this is not an image, but {printable(kind)}" if kind else "this is not an image")


def config_of(data: bytes, platform: str, layers: int) -> tuple[dict[str, Any], list[str]]:
    """Return how an image is to be run, as its config says, and the digests of its uncompressed layers.

    Raises :class:`Failed` for another platform, and for a config that does not fit the manifest.
    """
    found = _object(data, "config")
    of = f"{found.get('os')}/{found.get('architecture')}"
    if of != platform:
        raise Failed(EX_UNFIT, f"the image is for {printable(of)}, and this machine is {platform}")
    try:
        digests = [_digest(each) for each in found["rootfs"]["diff_ids"]]
        run = {key: found["config"][key] for key in _KEPT if key in (found.get("config") or {})}
    except (KeyError, TypeError, ValueError):
        raise _damaged("config") from None
    if len(json.dumps(run)) > MOST_RUN:
        raise Failed(EX_UNFIT, f"the image's config has more than {MOST_RUN >> 20} MiB of variables and arguments")
    if len(digests) != layers:
        raise Failed(EX_DATAERR, f"the image's config names {len(digests)} layers, its manifest {layers}")
    return run, digests


def _choice(entries: Any, platform: str) -> Blob:
    if not isinstance(entries, list) or len(entries) > _MOST_ENTRIES:
        raise _damaged("index")
    found: dict[str, Blob] = {}
    for entry in entries:
        of = entry.get("platform") if isinstance(entry, dict) else None
        if isinstance(of, dict) and of.get("os") != "unknown":  # those are notes of a build, about another entry
            found.setdefault(f"{of.get('os')}/{of.get('architecture')}", _blob(entry, "index"))
    if platform not in found:
        others = ", ".join(printable(each, 40) for each in sorted(found)[:8]) or "nothing that runs"
        raise Failed(EX_UNFIT, f"the image is not made for {platform}, only for {others}")
    return found[platform]


def _manifest(found: dict[str, Any]) -> Manifest:
    config, layers = _blob(found["config"], "manifest"), found["layers"]
    if config.media not in CONFIGS:
        raise Failed(EX_UNFIT, f"this is not an image that can be run: its config is {printable(config.media)}")
    if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
        raise Failed(EX_UNFIT, f"the image has more than {MOST_LAYERS} layers")
    blobs = tuple(_blob(each, "manifest") for each in layers)
    for blob in blobs:
        if blob.media not in LAYERS:
            raise Failed(EX_UNFIT, f"the image has a layer that cannot be unpacked: {printable(blob.media)}")
    return Manifest(config, blobs)


def _blob(value: Any, where: str) -> Blob:
    try:
        digest, media, size = _digest(value["digest"]), value["mediaType"], value["size"]
    except (KeyError, TypeError, ValueError):
        raise _damaged(where) from None
    if type(size) is not int or not 0 <= size <= _LARGEST or not isinstance(media, str):
        raise _damaged(where)
    return Blob(digest, media, size)


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _damaged(what)
    return found


def _damaged(what: str) -> Failed:
    return Failed(EX_DATAERR, f"the image's {what} is damaged")


def _digest(value: Any) -> str:
    if _DIGEST.fullmatch(value) is None:
        raise ValueError
    return str(value)
