"""The answers about the images of this machine."""

from __future__ import annotations

from dataclasses import dataclass

from flyted.contract.answers.codec import Answer


@dataclass(frozen=True, slots=True)
class LayerStatus(Answer):
    """A layer of an image."""

    source: str  # where it comes from, such as "layer 2 (pip_packages)", or the command that made it
    requirements: tuple[str, ...]  # what it installs into a Python environment
    seconds: float  # that it took; 0: not known


@dataclass(frozen=True, slots=True)
class ImageEntry(Answer):
    """An image on this machine's disk."""

    hash: str
    python: str  # the version of its Python; "": it has none that an app can be run with
    packages: int  # that are installed in a Python environment; 0: the image has more than that
    bytes: int  # of its files, also of those that it shares with other images; 0: not known
    built_at: float  # seconds since 1970
    used_by: tuple[str, ...]  # the apps that run in it or will after a start
    note: str  # remarks, such as why its Python is not the one that was asked for
    built: tuple[str, ...]  # packages built from source, as "name==version"
    layers: tuple[LayerStatus, ...]
    digests: tuple[tuple[str, str], ...]  # container images that it is made from: name, digest of the manifest
    rebuilt_as: str  # the hash of the image that its recipe gives since a rebuild; "": this one


@dataclass(frozen=True, slots=True)
class ImageList(Answer):
    """The answer of `image.list`."""

    images: tuple[ImageEntry, ...]


@dataclass(frozen=True, slots=True)
class PulledImage(Answer):
    """The answer of `image.pull`."""

    name: str  # with its defaults: docker.io/library/nginx:1.27
    digest: str  # of the manifest: the image that the name stands for now
    hash: str  # of the image that it became on this machine
    layers: int
    bytes: int  # that they take of the disk, also those that other images share


@dataclass(frozen=True, slots=True)
class Rebuilt(Answer):
    """The answer of `image.rebuild`."""

    before: str  # the hash of the image that was rebuilt
    hash: str  # of the new one; the same if nothing of it could be newer
    deployed: tuple[str, ...]  # the apps that run in the new one now
    left: tuple[str, ...]  # those that get it with their next deploy


@dataclass(frozen=True, slots=True)
class Pruned(Answer):
    """The answer of `image.prune`: what was removed; of `image.unused`: what would be."""

    images: tuple[ImageEntry, ...]
    layers: int
    downloads: int  # bytes of what was pulled of container images
    bytes: int  # that the disk gets, downloads among them; of what would be removed: at most
