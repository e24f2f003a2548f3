"""Turns the layers of Flyte's ImageSpec into steps, as Flyte's own builder turns them into a Dockerfile. Pure.

Source: flyte/_internal/imagebuild/docker_builder.py of the SDK 2.12.1, whose templates are meant by "template" here:
the same commands, variables, mounts and caches. Three things differ. uv comes from this machine instead of being
copied into the image. A Python that uv fetches goes to a folder that every user may read. What is installed as
editable is copied into the image, and not only mounted while it is installed: it is imported from there.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.idl_secrets import secret_use
from flyted.contract.names import printable
from flyted.contract.texts import plain_text
from flyted.plan.images import pip, pixi
from flyted.plan.images.bodies import defined_first, listed, only_known
from flyted.plan.images.build_secrets import spelled
from flyted.plan.images.root import BuildSecret, Copy, Env, Mount, Run, Set, Step
from flyted.plan.images.text import literal, with_variables, word

CREATE_USER = (
    "if ! id -u flyte >/dev/null 2>&1; then"
    " useradd --create-home --shell /bin/bash flyte; fi &&"
    " mkdir -p /home/flyte &&"
    " chown -R flyte:flyte /home/flyte &&"
    " chown -R flyte:flyte /root"
)
"""The command by which the SDK's images get their user (flyte/_image.py, _CREATE_FLYTE_USER_CMD)."""
HOME = "/home/flyte"
DEBIANS_PYTHON = "3.11"
"""What Debian bookworm has itself, from its mirrors; others are fetched by uv."""
_UV_CACHE = literal("/root/.cache/uv")
_POETRY_CACHE = "/tmp/poetry_cache"  # noqa: S108 -- the template's
_VENV = "VIRTUAL_ENV=${VIRTUAL_ENV-/opt/venv}"
_SECRETS = "/etc/flyte/secrets"
_VARIABLES = {"--index-url": "UV_DEFAULT_INDEX", "--extra-index-url": "UV_EXTRA_INDEX_URL"}
"""What uv reads in place of an option."""
_POETRYS = 'as_env_var="POETRY_HTTP_BASIC_NAME_PASSWORD", which poetry reads for the source NAME'
_APT = re.compile(r"[A-Za-z0-9~+][A-Za-z0-9.+:~=*/-]{0,255}")


@dataclass(frozen=True)
class Layer:
    """One layer of an ImageSpec. ``where``: its place, for people. ``owner``: who owns what is copied."""

    where: str
    kind: str
    body: Mapping[str, Any]
    folders: Mapping[str, str]
    files: Mapping[str, str]
    owner: str


def prelude(python: str) -> tuple[Step, ...]:
    """Return the steps by which the template begins: uv's variables, an environment if there is none, the path."""
    where = "the image's environment"
    asked = f" --python={python}" if python else ""
    command = (
        'if [ ! -f "$UV_PYTHON" ]; then '
        f"uv venv $VIRTUALENV{asked} && uv run --python=$UV_PYTHON python -m compileall $VIRTUALENV; fi"
    )
    return (
        Set(where, "user", literal("root")),
        _env(where, UV_COMPILE_BYTECODE="1", UV_LINK_MODE="copy", UV_PYTHON_INSTALL_DIR="/opt/uv/python"),
        _env(where, VIRTUALENV="${VIRTUALENV:-/opt/venv}"),
        _env(where, UV_PYTHON="${UV_PYTHON:-$VIRTUALENV/bin/python}"),
        Run(where, command, f"uv venv{asked}", caches=(_UV_CACHE,)),
        _env(where, PATH="$VIRTUALENV/bin:$PATH"),
        _env(where, PATH="$PATH:/usr/local/nvidia/bin:/usr/local/cuda/bin", LD_LIBRARY_PATH="/usr/local/nvidia/lib64"),
    )


def footer() -> tuple[Step, ...]:
    """Return the steps by which the template ends an image that has the SDK's user."""
    where = "the image's user"
    return (Set(where, "user", literal("flyte")), Set(where, "workdir", literal(HOME)))


def creates_user(kind: str, body: Mapping[str, Any]) -> bool:
    """Report whether a layer is the one that makes the SDK's user."""
    return kind == "commands" and CREATE_USER in (body.get("cmd") or [])


def debian_steps(python: str, flyte: str) -> tuple[Step, ...]:
    """Return what makes a Debian like the base images that the SDK starts from.

    ``flyte``: the SDK's version; "": as python:3.x-slim, without an environment. Source: flyte/_image.py,
    _get_default_image_for.
    """
    where = "the base image"
    found = f'"$(uv python find {python})"'
    install = "" if python == DEBIANS_PYTHON else f"uv python install {python} && "
    fetch = f"{install}ln -s {found} /usr/local/bin/python3 && ln -s python3 /usr/local/bin/python"
    steps: list[Step] = [
        _env(where, UV_LINK_MODE="copy", UV_PYTHON_INSTALL_DIR="/opt/uv/python"),
        Run(where, fetch, f"uv python {'install' if install else 'find'} {python}", caches=(_UV_CACHE,)),
    ]
    if flyte:
        make = f"uv venv /opt/venv --python={python} && uv pip install --python /opt/venv/bin/python flyte=={flyte}"
        steps += [
            Run(where, CREATE_USER, "useradd flyte"),
            Set(where, "workdir", literal(HOME)),
            _env(where, VIRTUAL_ENV="/opt/venv", PATH="/opt/venv/bin:$PATH", PYTHONPATH="/root"),
            Run(where, make, f"uv pip install flyte=={flyte}", caches=(_UV_CACHE,)),
            Set(where, "user", literal("flyte")),
        ]
    return tuple(steps)


def steps_of(layer: Layer) -> list[Step]:
    """Return the steps of one layer.

    Raises :class:`InvalidInput` for a body that is not of its form, :class:`Unsupported` for an unknown field.
    """
    return list(_KINDS[layer.kind](layer))


def known_kind(kind: str) -> bool:
    """Report whether there are steps for a kind of layer."""
    return kind in _KINDS


def _apt(layer: Layer) -> Iterator[Step]:
    only_known(layer.body, {"packages", "secretMounts"}, layer.where)
    packages = [_word(each, layer.where, "package") for each in listed(layer.body.get("packages"), layer.where)]
    if wrong := [each for each in packages if _APT.fullmatch(each) is None and not each.startswith("-")]:
        raise InvalidInput(
            f"{layer.where}: {printable(wrong[0])} is not a valid package of apt", hint='use a name, such as "git"'
        )
    command = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"
    show = f"apt-get install {' '.join(packages)}"
    yield Run(layer.where, command, show, caches=(literal("/var/cache/apt"),), secrets=_secrets(layer))


def _commands(layer: Layer) -> Iterator[Step]:
    only_known(layer.body, {"cmd", "secretMounts"}, layer.where)
    for command in listed(layer.body.get("cmd"), layer.where):
        text, secrets = _text(command, layer.where, "command"), _secrets(layer)
        yield pixi.step(layer.where, text, secrets) or Run(layer.where, text, text, secrets=secrets)


def _pip(layer: Layer) -> Iterator[Step]:
    only_known(layer.body, {"packages", "options", "secretMounts"}, layer.where)
    secrets = _secrets(layer)
    given = [_word(each, layer.where, "package") for each in listed(layer.body.get("packages"), layer.where)]
    names = {secret.env for secret in secrets if secret.env}
    packages = [shlex.quote(spelled(each, names, layer.where)[0]) for each in given]
    if packages:
        yield _uv(layer, f"uv pip install --python $UV_PYTHON {_options(layer)}{' '.join(packages)}", secrets)


def _requirements(layer: Layer) -> Iterator[Step]:
    only_known(layer.body, {"file", "options", "secretMounts"}, layer.where)
    file, secrets = _word(layer.body.get("file"), layer.where, "file"), _secrets(layer)
    names = {secret.env for secret in secrets if secret.env}
    text = layer.files.get(file)
    if not isinstance(text, str):
        raise InvalidInput(f"{layer.where}: the content of requirements file {printable(file)} was not sent")
    lines = [
        line if line.lstrip().startswith("#") else spelled(line, names, layer.where)[0] for line in text.split("\n")
    ]
    mount = Mount((), literal("requirements.txt"), text="\n".join(lines))
    command = f"uv pip install --python $UV_PYTHON {_options(layer)}--requirement requirements.txt"
    yield _uv(layer, command, secrets, mount)


def _wheels(layer: Layer) -> Iterator[Step]:
    only_known(layer.body, {"dir", "packageName", "options", "secretMounts"}, layer.where)
    name = shlex.quote(pip.requirement(layer.body.get("packageName"), layer.where))
    mount = Mount(literal(_word(layer.body.get("dir"), layer.where, "folder")), literal("/dist"))
    for how in ("", "--no-deps --no-index --reinstall "):
        yield _uv(layer, f"uv pip install {_options(layer)}--find-links /dist {how}{name}", _secrets(layer), mount)


def _uv_project(layer: Layer) -> Iterator[Step]:
    only_known(layer.body, {"pyproject", "uvlock", "options", "secretMounts", "sourceDir", "editable"}, layer.where)
    project = _word(layer.body.get("pyproject"), layer.where, "pyproject")
    lock = str(layer.body.get("uvlock") or "")
    options = _options(layer)
    if "--no-install-project" not in options:
        target = f"/root/.flyte/{posixpath.basename(posixpath.normpath(project)).lstrip('.') or 'project'}"
        mounts = [Mount(literal(project), literal(target), writable=True)]
        if lock and posixpath.normpath(lock) != posixpath.normpath(f"{project}/uv.lock"):
            mounts.append(Mount(literal(lock), literal(f"{target}/uv.lock"), writable=True))
        command = f"{_VENV} uv sync --active --inexact --no-editable {options}--project {shlex.quote(target)}"
        yield _uv(layer, command, _secrets(layer), *mounts)
        return
    mounts = [Mount(literal(lock), literal("uv.lock"), writable=True)] if lock else []
    mounts.append(Mount(literal(posixpath.join(project, "pyproject.toml")), literal("pyproject.toml")))
    for each in listed(layer.body.get("editable"), f"{layer.where}: editable"):
        folder = _word(each, layer.where, "folder")
        yield Copy(layer.where, (literal(folder),), literal(f"{posixpath.relpath(folder, project)}/"))
    yield _uv(layer, f"{_VENV} uv sync --active --inexact {options}".rstrip(), _secrets(layer), *mounts)


def _poetry(layer: Layer) -> Iterator[Step]:
    only_known(layer.body, {"pyproject", "poetryLock", "extraArgs", "secretMounts"}, layer.where)
    where, secrets = layer.where, _secrets(layer)
    project = _word(layer.body.get("pyproject"), where, "pyproject")
    lock = _word(layer.body.get("poetryLock"), where, "poetry.lock")
    more = _extra(layer.body, layer)
    yield _uv(layer, "uv pip install poetry", ())
    yield _env(where, POETRY_CACHE_DIR=_POETRY_CACHE)
    mounts: tuple[Mount, ...] = ()
    place = ""
    if posixpath.basename(project) == "pyproject.toml":
        yield _env(where, POETRY_VIRTUALENVS_IN_PROJECT="true")
        mounts = (Mount(literal(lock), literal("poetry.lock")), Mount(literal(project), literal("pyproject.toml")))
    else:
        place = f"/root/.flyte/{posixpath.basename(posixpath.normpath(project)).lstrip('.') or 'project'}"
        yield Copy(where, (literal(project),), literal(f"{place}/"))
        yield Copy(where, (literal(lock),), literal(f"{place}/poetry.lock"))
    words = ["poetry", "install", *([more] if more else []), *(["-C", shlex.quote(place)] if place else [])]
    command = " ".join([_VENV, *words])
    yield Run(where, command, " ".join(words), mounts, (literal(_POETRY_CACHE),), (), secrets)


def _copied(layer: Layer) -> Iterator[Step]:
    only_known(layer.body, {"src", "dst"}, layer.where)
    source = literal(_word(layer.body.get("src"), layer.where, "source"))
    target = _word(layer.body.get("dst") or ".", layer.where, "target")
    yield Copy(layer.where, (source,), word(target, layer.where), owner=literal(layer.owner))


def _workdir(layer: Layer) -> Iterator[Step]:
    only_known(layer.body, {"workdir"}, layer.where)
    folder = _word(layer.body.get("workdir"), layer.where, "folder")
    yield Set(layer.where, "workdir", word(folder, layer.where))


def _variables(layer: Layer) -> Iterator[Step]:
    only_known(layer.body, {"envVariables"}, layer.where)
    given = layer.body.get("envVariables") or {}
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{layer.where}: env must be a map")
    values = {name: plain_text(given[name], f"variable {printable(name)} of the image") for name in sorted(given)}
    for name in defined_first(values, layer.where):
        yield Env(layer.where, ((name, with_variables(values[name])),))


_KINDS = {
    "aptPackages": _apt, "commands": _commands, "pipPackages": _pip, "requirements": _requirements,
    "pythonWheels": _wheels, "uvProject": _uv_project, "poetryProject": _poetry, "copyConfig": _copied,
    "workdir": _workdir, "env": _variables,
}  # fmt: skip


def _uv(layer: Layer, command: str, secrets: tuple[BuildSecret, ...], *mounts: Mount) -> Run:
    show = command.removeprefix(f"{_VENV} ").replace("--python $UV_PYTHON ", "")
    return Run(layer.where, f"{_hidden(layer)}{command}", show, mounts, (_UV_CACHE,), (), secrets)


def _env(where: str, **values: str) -> Env:
    return Env(where, tuple((name, word(value, where)) for name, value in values.items()))


def _options(layer: Layer) -> str:
    """Return the options of pip as the template writes them, with a space behind them."""
    body = layer.body.get("options") or {}
    if not isinstance(body, Mapping):
        raise InvalidInput(f"{layer.where}: options must be a map")
    only_known(body, {"indexUrl", "extraIndexUrls", "pre", "extraArgs"}, layer.where)
    names = {secret.env for secret in _secrets(layer) if secret.env}
    # in double quotes, so that the shell replaces the secrets' variables as Flyte's builder has it
    indexes = _indexes(body, layer.where, names)
    given = [f'{option} "{url}"' for option, urls in indexes.items() if not _is_secret(urls) for url in urls]
    given += ["--pre"] if body.get("pre") else []
    extra = _extra(body, layer)
    return "".join(f"{each} " for each in [*given, *([extra] if extra else [])])


def _extra(body: Mapping[str, Any], layer: Layer) -> str:
    """Return further arguments of a command. Raises :class:`Unsupported` for a secret: `ps` shows arguments to all."""
    names = {secret.env for secret in _secrets(layer) if secret.env}
    extra = spelled(_line(body.get("extraArgs") or "", layer.where), names, layer.where)[0]
    if "$" in extra:
        raise Unsupported(
            f"{layer.where}: a secret in extra_args would be visible to every user of this machine during the build",
            hint=_POETRYS if layer.kind == "poetryProject" else "use index_url= or extra_index_urls=",
        )
    return extra


def _hidden(layer: Layer) -> str:
    """Return the addresses of indexes that name secrets, as assignments before a command of uv.

    What is an argument of uv, everybody on the machine could read in the list of processes.
    """
    body = layer.body.get("options") or {}
    names = {secret.env for secret in _secrets(layer) if secret.env}
    found = _indexes(body, layer.where, names) if isinstance(body, Mapping) else {}
    return "".join(f'{_VARIABLES[name]}="{" ".join(urls)}" ' for name, urls in found.items() if _is_secret(urls))


def _is_secret(urls: Sequence[str]) -> bool:
    """Report whether one names a secret. uv takes either the option or the variable, so the others go with it."""
    return any("$" in url for url in urls)


def _indexes(body: Mapping[str, Any], where: str, names: set[str]) -> dict[str, list[str]]:
    """Return the indexes of a layer by pip's option for each. ``names``: the variables that hold secrets."""
    given: Sequence[tuple[str, Sequence[object]]] = [
        ("--index-url", [body["indexUrl"]] if body.get("indexUrl") else []),
        ("--extra-index-url", listed(body.get("extraIndexUrls"), where)),
    ]
    return {
        option: [spelled(_word(url, where, "index"), names, where)[0] for url in urls]
        for option, urls in given
        if urls
    }


def _secrets(layer: Layer) -> tuple[BuildSecret, ...]:
    found = []
    for each in listed(layer.body.get("secretMounts"), f"{layer.where}: secret_mounts"):
        if not isinstance(each, Mapping):
            raise InvalidInput(f"{layer.where}: secret_mounts must be a list of maps")
        use = secret_use(dict(each))
        found.append(BuildSecret(use.key, use.env, "" if use.env else f"{_SECRETS}/{use.file}"))
    return tuple(found)


def _text(value: object, where: str, what: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise InvalidInput(f"{where}: {printable(value)} is not a valid {what}")
    return value


def _word(value: object, where: str, what: str) -> str:
    return plain_text(_text(value, where, what), f"{where}: the {what}")


def _line(value: object, where: str) -> str:
    return plain_text(value, f"{where}: extra_args").strip()
