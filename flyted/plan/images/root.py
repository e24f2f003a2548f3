"""Describes a root image as plain data: its stages, each a base and steps upon it, in order. Pure.

A root image is a stack of layers, unlike a recipe (``plan/images/recipe.py``), which is one folder with packages. It
comes from an ImageSpec (``plan/images/from_spec.py``) or a Dockerfile (``plan/images/dockerfile.py``). What each step
makes is decided in ``plan/images/layers.py``, when it is known what the base images contain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from flyted.contract.app import SecretUse
from flyted.contract.errors import InvalidInput
from flyted.contract.names import printable
from flyted.layers.words import FORMAT
from flyted.plan.images.canonical import canonical, digest
from flyted.plan.images.text import Text

SHELL = ("/bin/sh", "-c")
_MOST_ON_PATH = 64
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,511}")


@dataclass(frozen=True)
class DebianBase:
    """A minimal Debian, made from the machine's own package sources."""

    suite: str  # "bookworm"
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Scratch:
    """An empty folder."""


@dataclass(frozen=True)
class OciBase:
    """A container image of a registry. ``otherwise``: what to build where the registry does not answer."""

    reference: str  # "docker.io/library/python:3.12-slim", as written
    otherwise: Stage | None = None


@dataclass(frozen=True)
class StageBase:
    """An earlier stage of the same recipe, by its number."""

    stage: int


Base = DebianBase | Scratch | OciBase | StageBase


@dataclass(frozen=True)
class BuildSecret:
    """A secret that one step reads: as variable ``env``, or as the file ``file``, an absolute path.

    ``optional``: the step is made without it if it is not in the store.
    """

    key: str
    env: str = ""
    file: str = ""
    optional: bool = False

    def use(self) -> SecretUse:
        """Return what the step's unit is given. Raises :class:`InvalidInput` for a name that is not valid."""
        return SecretUse(self.key, env=self.env, file="" if self.env else self.key.rpartition("/")[2])


@dataclass(frozen=True)
class Mount:
    """A file or folder that a command sees and the layer does not get; of a stage, else of what the client sent.

    ``text``: the file's content, which then has no source.
    """

    source: Text
    target: Text
    stage: int | None = None
    writable: bool = False
    text: str | None = None


@dataclass(frozen=True)
class Run:
    """A command: a text for the shell, or the words of a program."""

    where: str
    command: str | tuple[str, ...]
    show: str  # for people
    mounts: tuple[Mount, ...] = ()
    caches: tuple[Text, ...] = ()  # folders that are kept between builds, and are never in a layer
    empty: tuple[Text, ...] = ()  # folders that are empty at first and gone afterwards
    secrets: tuple[BuildSecret, ...] = ()


@dataclass(frozen=True)
class Copy:
    """A copy of files into the image, of a stage, else of what the client sent. ``unpack``: archives are unpacked."""

    where: str
    sources: tuple[Text, ...]
    target: Text
    stage: int | None = None
    owner: Text = ()
    mode: str = ""
    unpack: bool = False


@dataclass(frozen=True)
class Env:
    """Variables, all expanded with the values before them."""

    where: str
    pairs: tuple[tuple[str, Text], ...]


@dataclass(frozen=True)
class Arg:
    """A variable of the build alone. ``value`` is None for one without a default."""

    where: str
    name: str
    value: Text | None


@dataclass(frozen=True)
class Set:
    """A setting of the image that is one text: ``workdir`` or ``user``."""

    where: str
    name: str
    value: Text


@dataclass(frozen=True)
class SetWords:
    """A setting that is a list of words, or a text for the shell: ``shell``, ``entrypoint`` or ``cmd``."""

    where: str
    name: str
    value: str | tuple[str, ...]


@dataclass(frozen=True)
class Add:
    """Additions to a list of the image: ``ports`` or ``volumes``."""

    where: str
    name: str
    values: tuple[Text, ...]


Step = Run | Copy | Env | Arg | Set | SetWords | Add


@dataclass(frozen=True)
class Stage:
    """A base and the steps upon it."""

    base: Base
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class RootRecipe:
    """An image of layers. The last stage is the image; the others are only copied from.

    ``folders``: path in the build's context → SHA-256 of the bundle that holds it, under the last part of its name
    ("." holds the whole context). ``arguments``: variables that a Dockerfile sets before its first FROM. ``notes``:
    what the image asks for and does not get, for people. ``scope``: project and domain whose secrets it is built with.
    ``login``: the secret with the logins of registries; "": none.
    """

    stages: tuple[Stage, ...]
    folders: tuple[tuple[str, str], ...] = ()
    arguments: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    scope: tuple[str, str] = ("", "")
    login: str = ""


@dataclass(frozen=True)
class ImageConfig:
    """How an image's program is to be run: what a registry calls the image's config."""

    env: tuple[tuple[str, str], ...] = ()
    user: str = ""  # a name or number, also with ":GROUP"; "": root
    workdir: str = ""  # "": /
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()  # "80/tcp"
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerJob:
    """One layer, as its unit gets it. ``job`` is the content of the credential, without values of secrets.

    ``secrets``: the secrets that the unit reads, by the id of the credential that carries each. ``where``: the place
    of its step in the image, for people.
    """

    id: str
    parents: tuple[str, ...]  # lowest first
    job: dict[str, Any] = field(hash=False)
    secrets: tuple[tuple[str, BuildSecret], ...] = ()
    where: str = ""

    @property
    def text(self) -> str:
        """The job as the step program reads it."""
        return canonical(self.job)


@dataclass(frozen=True)
class RootPlan:
    """What to make, in order, and what it becomes.

    ``jobs``: also those of stages that are only copied from. ``layers``: the image's own, lowest first. ``renewed``:
    the key and the id of each layer that a rebuild makes (``plan/images/renewed.py``). ``keys``: those of all
    layers that were rebuilt, now or before.
    """

    jobs: tuple[LayerJob, ...]
    layers: tuple[str, ...]
    config: ImageConfig
    notes: tuple[str, ...] = ()
    renewed: tuple[tuple[str, str], ...] = ()
    keys: tuple[str, ...] = ()


def as_pulled(reference: str, login: str = "") -> RootRecipe:
    """Return the recipe of a container image as it is. ``login``: see :class:`RootRecipe`."""
    return RootRecipe((Stage(OciBase(reference)),), login=login)


def reference(text: str, where: str) -> str:
    """Return the name of a container image. Raises :class:`InvalidInput` for any other text."""
    if _REFERENCE.fullmatch(text) is None:
        raise InvalidInput(
            f"{where}: {printable(text)} is not a container image", hint="use a name, such as python:3.12-slim"
        )
    return text


def on_path(path: str) -> list[str]:
    """Return the folders of an image's PATH, up to 64: each is looked for in each layer."""
    return [folder for folder in path.split(":") if folder.startswith("/")][:_MOST_ON_PATH]


def layer_id(arch: str, parent: str, content: object) -> str:
    """Return 32 hex digits, equal for equal steps upon equal parents. ``parent``: the id below; "": none."""
    return digest({"format": FORMAT, "arch": arch, "parent": parent, "step": content})
