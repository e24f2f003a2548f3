"""Turns Flyte's ImageSpec into a recipe, without containers. Whatever a venv cannot honour is refused by name. Pure.

The ImageSpec is protobuf-JSON (``flyteidl2.imagebuilder.ImageSpec``, as ``flyte._internal.imagebuild.remote_builder``
fills it): ``baseImage``, ``pythonVersion``, ``layers``, plus our ``files``: name → content of requirements files.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from flyted.contract.app import MAX_ENV
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import env_name, printable
from flyted.contract.texts import MAX_TEXT, plain_text
from flyted.plan.engines.base import Engine
from flyted.plan.engines.registry import brings, needs_gpu
from flyted.plan.images import known_layers, pip
from flyted.plan.images.bodies import (
    VARIABLE,
    Layer,
    defined_first,
    layers_in,
    listed,
    named_in,
    only_known,
    python_of,
    texts_of,
)
from flyted.plan.images.build_secrets import distinct, layer_secrets
from flyted.plan.images.build_unit import image_dir
from flyted.plan.images.recipe import Install, Recipe, recipe_json
from flyted.plan.images.root import RootRecipe
from flyted.plan.images.root_spec import BASE, LOGIN, WITHOUT_SDK, root_from_spec

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

_OF_VENVS = frozenset({"pipPackages", "requirements", "env"})
"""The kinds of layers that a Python environment is made of."""


def image_from_spec(
    spec: Mapping[str, Any],
    files: Mapping[str, str] | None,
    folders: Mapping[str, str],
    arch: str,
    have: Callable[[str], bool] = lambda _path: True,
) -> Recipe | RootRecipe:
    """Return how the image of an ImageSpec is made: what a venv can do stays a venv, so nothing becomes slower.

    ``folders``: see :class:`RootRecipe`. ``arch``: this machine's, as of uname -m. ``have``: says whether this machine
    has a file: a program of its own may stand for layers that only compile it. Raises as :func:`root_from_spec`, and
    :class:`InvalidInput` as :func:`recipe_from_spec`.
    """
    with contextlib.suppress(Unsupported):  # it is more than a Python environment
        recipe = recipe_from_spec(spec, files)
        if not recipe.needs or any(map(have, recipe.needs)):
            return recipe
    return root_from_spec(spec, texts_of(files if files is not None else spec.get("files") or {}), folders, arch)


def recipe_from_spec(spec: Mapping[str, Any], files: Mapping[str, str] | None = None) -> Recipe:
    """Return the recipe of an ImageSpec whose image can be a venv.

    ``files``: the requirements files by name; without it, ``spec["files"]`` holds them. Raises :class:`Unsupported`
    for an image that is more than that, which no user sees, and :class:`InvalidInput` for what is not valid.
    """
    if "dockerfile" in spec:
        raise _more("an image of a Dockerfile")
    only_known(spec, {"baseImage", "pythonVersion", "layers", "files", LOGIN}, "the image")
    python, flyte = _base(spec.get("baseImage"), spec.get("pythonVersion"))
    named, needs = _without_known(layers_in(spec))
    _refuse_unsupported(named)
    texts = texts_of(files if files is not None else spec.get("files") or {})
    installs = [Install("base image", (f"flyte=={flyte}",))]
    env: list[tuple[str, str]] = []
    for where, kind, body in named:
        if kind == "env":
            env.extend(_env(body, where))
        else:
            installs.append(_install(kind, body, where, texts))
    if len(env) > MAX_ENV:
        raise InvalidInput(f"the image sets {len(env)} variables; the limit is {MAX_ENV}")
    recipe = Recipe(python, tuple(i for i in installs if i.requirements), tuple(env), needs)
    distinct(use for install in recipe.installs for use in install.secrets)
    recipe_json(recipe)  # this and the next refuse what is too large, before anything else is done
    env_of(recipe, image_dir("0" * 32))
    return recipe


def pip_installs(spec: Mapping[str, Any]) -> tuple[Install, ...]:
    """Return what the pip layers of an image of layers install, as far as a venv could install it in the same way."""
    found: list[Install] = []
    for where, kind, body in layers_in(spec) if "dockerfile" not in spec else []:
        with contextlib.suppress(InvalidInput, Unsupported):
            found += [_install(kind, body, where, {})] if kind == "pipPackages" else []
    return tuple(found)


def engine_of(installs: Iterable[Install]) -> str:
    """Return the requirement because of which the image runs on a GPU only; "" if there is none.

    Flyte's client has the image built first, and names the app's GPU only after that, gigabytes later.
    """
    return next((r for install in installs for r in install.requirements if needs_gpu(r)), "")


def gpu_build_of(installs: Iterable[Install], engine: Engine) -> str:
    """Return the requirement that brings an engine, if its build is certainly the package index's.

    The index has builds for GPUs only. "" where any requirement for the engine may bring another build: with another
    index, an address or a local version.
    """
    found = [(text, each.options) for each in installs for text in each.requirements if brings(text, engine)]
    other = any(
        "@" in text or "+" in text or any("index" in option or "find-links" in option for option in options)
        for text, options in found
    )
    return found[0][0] if found and not other else ""


def env_of(recipe: Recipe, folder: str) -> tuple[tuple[str, str], ...]:
    """Return the image's variables for the app's unit, with `$NAME` and `${NAME}` expanded as in a Dockerfile's ENV.

    A name stands for the value that it was last given, in the order of the recipe; a name without a value for nothing.
    ``PATH`` begins as the image's own. Raises :class:`InvalidInput` for a value that becomes longer than an app's may
    be.
    """
    known = {"PATH": f"{folder}/bin:{_SYSTEM_PATH}"}
    given: dict[str, str] = {}
    for name, value in recipe.env:
        given[name] = known[name] = _expanded(name, value, known)
    return tuple(given.items())


def _base(image: object, version: object) -> tuple[str, str]:
    found = BASE.fullmatch(image) if isinstance(image, str) else None
    if isinstance(image, str) and WITHOUT_SDK.fullmatch(image):
        raise _more(f"base image {printable(image)}, which has no Flyte SDK in it,")
    if found is None:
        raise _more(f"base image {printable(image)}")
    asked = python_of(version)
    if asked and asked != found["python"]:
        raise InvalidInput(f"the image asks for Python {asked}, but its base image has {found['python']}")
    if int(found["python"].split(".")[1]) < 10:
        raise Unsupported(f"Python {found['python']} is too old for apps", hint="use Python 3.10 or newer")
    return found["python"], found["flyte"]


def _without_known(layers: list[Layer]) -> tuple[list[Layer], tuple[str, ...]]:
    """Split off the layers that a program of the machine may replace.

    Returns the other layers, and the files of which the machine then has to have one.
    """
    pips = [(where, body) for where, kind, body in layers if kind == "pipPackages"]
    names = [str(name) for where, body in pips for name in listed(body.get("packages"), f"{where}: packages")]
    compiled = [layer for layer in layers if known_layers.compiles(*layer[1:])]
    if not compiled or not known_layers.of_known_image(names):
        return layers, ()
    known = [layer for layer in layers if layer in compiled or known_layers.prepares(*layer[1:])]
    return [layer for layer in layers if layer not in known], known_layers.LLAMA_SERVER


def _refuse_unsupported(layers: list[Layer]) -> None:
    more = [f"{where} ({printable(kind)})" for where, kind, _ in layers if kind not in _OF_VENVS]
    if more:
        raise _more(", ".join(more))


def _more(what: str) -> Unsupported:
    return Unsupported(f"{what} needs more than a Python environment", hint="build a root image")


def _install(kind: str, body: Mapping[str, Any], where: str, files: Mapping[str, str]) -> Install:
    only_known(body, {"packages", "file", "options", "secretMounts"}, where)
    secrets = layer_secrets(listed(body.get("secretMounts"), f"{where}: secret_mounts"), where)
    names = {use.env for use in secrets}
    given = _pip_options(body.get("options") or {}, where, names)
    if kind == "pipPackages":
        packages = listed(body.get("packages"), f"{where}: packages")
        lines = tuple(pip.requirement(each, where, names) for each in packages)
        return Install(f"{where} (pip packages)", lines, given, secrets)
    name = body.get("file")
    text = files.get(name) if isinstance(name, str) else None
    if not isinstance(text, str):
        raise InvalidInput(f"{where}: the content of requirements file {printable(name)} was not sent")
    label = f"{where} ({plain_text(str(name).rsplit('/', 1)[-1], 'a file name', limit=128)})"
    lines, more = pip.requirements_file(text, label, names)
    return Install(label, lines, given + more, secrets)


def _pip_options(body: object, where: str, secrets: Collection[str]) -> tuple[str, ...]:
    if not isinstance(body, Mapping):
        raise InvalidInput(f"{where}: options must be a map")
    only_known(body, {"indexUrl", "extraIndexUrls", "pre", "extraArgs"}, where)
    words: list[str] = []
    if body.get("indexUrl"):
        words += ["--index-url", body["indexUrl"]]
    for extra in listed(body.get("extraIndexUrls"), f"{where}: extra_index_urls"):
        words += ["--extra-index-url", extra]
    if body.get("pre"):
        words.append("--pre")
    return pip.options(words + pip.split_options(body.get("extraArgs") or "", where), where, secrets)


def _env(body: Mapping[str, Any], where: str) -> list[tuple[str, str]]:
    only_known(body, {"envVariables"}, where)
    variables = body.get("envVariables") or {}
    if not isinstance(variables, Mapping):
        raise InvalidInput(f"{where}: env must be a map")
    names = [name if name == "PATH" else env_name(name) for name in sorted(variables)]
    values = {name: _env_value(name, variables[name]) for name in names}
    return [(name, values[name]) for name in defined_first(values, where)]


def _env_value(name: str, value: object) -> str:
    text = plain_text(value, f"variable '{name}' of the image")
    for found in VARIABLE.finditer(text):
        if found["braced"] is not None and not _IDENTIFIER.fullmatch(found["braced"]):
            raise Unsupported(
                f"variable '{name}' of the image: {printable(found[0])} is not supported", hint="use $NAME or ${NAME}"
            )
    return text


def _expanded(name: str, value: str, known: Mapping[str, str]) -> str:
    size = len(value) + sum(len(known.get(use, "")) for use in named_in(value))
    if size > MAX_TEXT:  # looked at before: it may double with each variable
        raise InvalidInput(
            f"variable '{name}' of the image is too long with its variables replaced",
            hint=f"the limit is {MAX_TEXT} characters",
        )
    replace: Callable[[re.Match[str]], str] = lambda found: (  # noqa: E731
        "$" if found[0] == "\\$" else known.get(found["braced"] or found["plain"], "")
    )
    return VARIABLE.sub(replace, value)
