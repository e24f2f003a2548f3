"""Reads the name of an image, as ``docker pull`` does: ``[REGISTRY/]PATH[:TAG][@DIGEST]``. Pure.

Sources: the grammar of distribution/reference, and its defaults: registry docker.io, there folder library, tag latest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DOCKER_HUB = "docker.io"
_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]{0,61}[A-Za-z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]{{2,45}}\])(?::(?P<port>[0-9]{{1,5}}))?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LONGEST = 1024
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Reference:
    """An image's name. ``digest``: ``sha256:…`` or empty; then it is the image that ``tag`` names today."""

    registry: str
    path: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.registry}/{self.path}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """The name without tag and digest."""
        return f"{self.registry}/{self.path}"


def parse(text: str) -> Reference:
    """Return the reference with its defaults filled in. Raises ``ValueError`` that says what is wrong."""
    if not isinstance(text, str) or not text or len(text) > LONGEST or not text.isascii() or not text.isprintable():
        raise ValueError("it is not the name of an image")
    name, at, digest = text.partition("@")
    if at and _DIGEST.fullmatch(digest) is None:
        raise ValueError("@ must be followed by a digest: sha256: and 64 digits of 0-9a-f")
    registry, path = _registry(name)
    path, colon, tag = path.partition(":")
    if colon and _TAG.fullmatch(tag) is None:
        raise ValueError("a tag has at most 128 letters, digits, _, . and -, and does not begin with . or -")
    if registry == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    if _PATH.fullmatch(path) is None or len(registry) + 1 + len(path) > _LONGEST_NAME:
        raise ValueError("a name has small letters, digits, and single ., _ or - between them, at most 255 in all")
    return Reference(registry, path, tag or ("" if digest else "latest"), digest)


def registry(text: str) -> str:
    """Return the name of a registry, ``HOST[:PORT]``; Docker Hub has one name. Raises ``ValueError``."""
    found = _REGISTRY.fullmatch(text)
    if found is None or len(text) > _LONGEST_NAME or (found["port"] and not 0 < int(found["port"]) < 65536):
        raise ValueError(f"{text!a} is not a registry, such as registry.example.com or localhost:5000")
    name = text.lower()
    return DOCKER_HUB if name in {"index.docker.io", "registry-1.docker.io"} else name


def _registry(name: str) -> tuple[str, str]:
    """Return registry and path. The first component is a registry if it could be no folder on Docker Hub."""
    first, slash, rest = name.partition("/")
    if slash and (set(first) & set(".:[") or first == "localhost" or first != first.lower()):
        return registry(first), rest
    return DOCKER_HUB, name
