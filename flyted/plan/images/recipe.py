"""Describes an image as plain data: the Python asked for, the installs in order, the variables. Pure.

A recipe comes from Flyte's ImageSpec (``plan/images/spec.py``) and goes to the builder (``flyted/build``) as JSON. Its
hash names the folder of the finished image: equal recipes on one machine share one folder.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from flyted.build.words import FORMAT
from flyted.contract.app import SecretUse
from flyted.contract.errors import InvalidInput
from flyted.plan.images.canonical import canonical, digest

MAX_RECIPE_BYTES = 128 << 10  # travels as one D-Bus property and one line of the transient unit file (1 MiB there)


@dataclass(frozen=True)
class Install:
    """One ``uv pip install``. ``source`` says where it comes from, for people, and is not part of the hash."""

    source: str
    requirements: tuple[str, ...]  # PEP 508, one a line, with their --hash options
    options: tuple[str, ...] = ()  # uv's spelling, already checked
    secrets: tuple[SecretUse, ...] = ()  # uv's variables that requirements and options may name as ${NAME}


@dataclass(frozen=True)
class Recipe:
    """An image. ``env`` goes to the app's unit and is not part of the hash, so changing it builds nothing."""

    python: str  # "3.12", as asked
    installs: tuple[Install, ...]
    env: tuple[tuple[str, str], ...] = ()  # in the order in which they are set, `$NAME` not yet expanded
    needs: tuple[str, ...] = ()  # files, one of which the machine has in place of layers; not part of the hash either
    scope: tuple[str, str] = ("", "")  # project and domain whose secrets it is built with; empty without secrets


@dataclass(frozen=True)
class Machine:
    """What a finished image depends on: its wheels are compiled, and its links point to the system's Python."""

    arch: str  # uname -m
    libc: str  # "glibc 2.41"
    system_python: str  # "3.13": major.minor of /usr/bin/python3, so that images are rebuilt after a release upgrade


def recipe_json(recipe: Recipe) -> str:
    """Return the recipe as the builder reads it: one line of ASCII, without the secrets.

    Raises :class:`InvalidInput` above :data:`MAX_RECIPE_BYTES`.
    """
    text = canonical(
        {"format": FORMAT, "python": recipe.python, "installs": [_told(each) for each in recipe.installs]}
    )
    if len(text) > MAX_RECIPE_BYTES:
        raise InvalidInput(
            f"the image needs {len(text) >> 10} KiB of requirements; the limit is {MAX_RECIPE_BYTES >> 10} KiB",
            hint="remove --hash lines, or list only the direct requirements",
        )
    return text


def recipe_hash(recipe: Recipe, machine: Machine) -> str:
    """Return 32 hex digits, equal for recipes that give the same image on the same machine."""
    content = {
        "format": FORMAT,
        "machine": asdict(machine),
        "python": recipe.python,
        "installs": [[install.requirements, install.options] for install in recipe.installs],
    }
    if secrets := [[use.key, use.env] for install in recipe.installs for use in install.secrets]:
        content |= {"secrets": secrets, "scope": recipe.scope}  # one project may fetch what others may not
    return digest(content)


def _told(install: Install) -> dict[str, Any]:
    return {key: value for key, value in asdict(install).items() if key != "secrets"}
