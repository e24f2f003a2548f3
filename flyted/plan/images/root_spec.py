"""Turns an ImageSpec, or the Dockerfile in its place, into a root recipe that can be planned. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import printable
from flyted.contract.texts import plain_text
from flyted.plan.images.bodies import layers_in, only_known, python_of
from flyted.plan.images.from_spec import (
    DEBIANS_PYTHON,
    Layer,
    creates_user,
    debian_steps,
    footer,
    known_kind,
    prelude,
    steps_of,
)
from flyted.plan.images.layers import Pulled, plan_of, references
from flyted.plan.images.oci_config import image_config
from flyted.plan.images.pull_unit import image_name, login_use
from flyted.plan.images.root import DebianBase, OciBase, RootRecipe, Stage, Step, reference
from flyted.plan.images.root_record import version_of

BASE = re.compile(r"ghcr\.io/flyteorg/flyte:py(?P<python>3\.\d{1,2})-v(?P<flyte>\d[0-9A-Za-z.]{0,40})")
"""The SDK's own base image."""
WITHOUT_SDK = re.compile(r"python:(?P<python>3\.\d{1,2})-slim-bookworm")
"""The base of images that the SDK starts without itself (flyte/_image.py: _get_default_image_for)."""
LOGIN = "registrySecret"
"""Flyte's ImageSpec has no field for it: flytectl and the gateway add it, as ``{"key": …, "group": …}``."""
MAX_JOB = 512 << 10
"""A job travels as one credential, which systemd(1) limits to 1 MiB; encoded in a unit it is a third larger."""
_SUITE = "bookworm"
_VENV = "/opt/venv"
_LEAD = ("UV_PYTHON", "VIRTUAL_ENV", "VIRTUALENV", "PATH")
_PYTHONS = re.compile(r"python|venv|conda|mamba|pixi")
"""In a command that may make another environment."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def root_from_spec(
    spec: Mapping[str, Any], files: Mapping[str, str], folders: Mapping[str, str], arch: str
) -> RootRecipe:
    """Return the recipe of an image that a venv cannot be.

    ``files``: the content of requirements files. ``folders``: see :class:`RootRecipe`. ``arch``: this machine's, as of
    uname -m. Raises :class:`InvalidInput` or :class:`Unsupported` for what cannot be made, as far as it can be known
    before the base image is pulled.
    """
    if wrong := [name for name, digest in folders.items() if _SHA256.fullmatch(str(digest)) is None]:
        raise InvalidInput(f"the digest of {printable(wrong[0])} is not valid", hint="update flytectl")
    if "dockerfile" in spec:
        recipe = _of_dockerfile(spec, folders, arch)
    else:
        recipe = RootRecipe((_stage(spec, files, folders),), tuple(sorted(folders.items())))
    recipe = dataclasses.replace(recipe, login=login_of(spec))
    for name in references(recipe):
        image_name(name, "the image's base")
    unknown = {name: Pulled((), image_config(name, {})) for name in references(recipe)}
    kept = {name: image for name, image in unknown.items() if not _replaceable(recipe, name)}
    for job in (*plan_of(recipe, arch, unknown).jobs, *plan_of(recipe, arch, kept).jobs):
        for _, secret in job.secrets:
            secret.use()
        if len(job.text) > MAX_JOB:
            raise InvalidInput(f"a step of the image needs more than {MAX_JOB >> 10} KiB: {printable(job.text[:200])}")
    return recipe


def login_of(spec: Mapping[str, Any]) -> str:
    """Return the name of the secret with the logins of registries (``registry_secret=``); "" if there is none.

    Raises :class:`InvalidInput` for what is no secret.
    """
    given = spec.get(LOGIN)
    if given is None:
        return ""
    if not isinstance(given, Mapping):
        raise InvalidInput("registry_secret of the image must be a map")
    only_known(given, {"key", "group"}, "registry_secret of the image")
    key, group = (plain_text(given.get(name) or "", "registry_secret of the image") for name in ("key", "group"))
    return login_use(f"{group}/{key}" if group else key).key


def old_python(spec: Mapping[str, Any]) -> str:
    """Return the version of the Python that the image's base has, if launch cannot run on it; "" if it can.

    "" also where it is not known: where a command or a variable of a layer may lead to another Python.
    """
    image = spec.get("baseImage")
    found = (BASE.fullmatch(image) or WITHOUT_SDK.fullmatch(image)) if isinstance(image, str) else None
    if found is None or version_of(f"python{found['python']}"):
        return ""
    return "" if any(_may_lead_elsewhere(kind, body) for _, kind, body in layers_in(spec)) else found["python"]


def _may_lead_elsewhere(kind: str, body: Mapping[str, Any]) -> bool:
    if kind == "commands":
        return _PYTHONS.search(str(body.get("cmd"))) is not None
    given = body.get("envVariables") if kind == "env" else None
    values = given if isinstance(given, Mapping) else {}
    return any(not str(values[name]).startswith(_VENV) for name in _LEAD if name in values)


def _replaceable(recipe: RootRecipe, name: str) -> bool:
    bases = [stage.base for stage in recipe.stages]
    return any(isinstance(base, OciBase) and base.reference == name and base.otherwise is not None for base in bases)


def _of_dockerfile(spec: Mapping[str, Any], folders: Mapping[str, str], arch: str) -> RootRecipe:
    only_known(spec, {"dockerfile", LOGIN}, "the image")
    given = spec["dockerfile"]
    if not isinstance(given, Mapping) or not all(isinstance(given.get(key), str) for key in ("name", "text")):
        raise InvalidInput("the image's Dockerfile must have a name and a text")
    from flyted.plan.images.dockerfile import recipe_of_dockerfile  # noqa: PLC0415  few need it: 200 KB of memory

    return recipe_of_dockerfile(given["text"], given["name"][-128:], folders, arch)


def _stage(spec: Mapping[str, Any], files: Mapping[str, str], folders: Mapping[str, str]) -> Stage:
    only_known(spec, {"baseImage", "pythonVersion", "layers", "files", LOGIN}, "the image")
    image = spec.get("baseImage")
    base = _base(image if isinstance(image, str) else "")
    python = python_of(spec.get("pythonVersion"))
    layers = layers_in(spec)
    if not layers:
        return Stage(base)  # the SDK builds nothing then: the app runs in the base image itself
    has_user = BASE.fullmatch(base.reference) is not None
    steps: list[Step] = [*prelude(python)]
    for where, kind, body in layers:
        if not known_kind(kind):
            raise Unsupported(f"{where}: {printable(kind)} is not known", hint="update flyted")
        has_user = has_user or creates_user(kind, body)
        steps += steps_of(Layer(where, kind, body, folders, files, "flyte:flyte" if has_user else ""))
    if any(creates_user(kind, body) for _, kind, body in layers):
        steps += footer()
    return Stage(base, tuple(steps))


def _base(image: str) -> OciBase:
    """Return the base image; for those that the SDK itself starts from, with a Debian that is like them."""
    name = reference(image, "the image's base")
    if found := BASE.fullmatch(name):
        return OciBase(name, _debian(found["python"], found["flyte"], "build-essential"))
    if found := WITHOUT_SDK.fullmatch(name):
        return OciBase(name, _debian(found["python"], ""))
    return OciBase(name)


def _debian(python: str, flyte: str, *more: str) -> Stage:
    packages = (*more, "ca-certificates", *(("python3",) if python == DEBIANS_PYTHON else ()))
    return Stage(DebianBase(_SUITE, packages), debian_steps(python, flyte))
