"""Handles the secrets of an image's build: the variables that uv may get, and how requirements name them. Pure.

A value goes from the store to the build's unit as a credential, from there into uv's environment, and nowhere else. A
recipe contains ``${NAME}``, which uv replaces when it reads the requirements (pip's requirements file format).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from flyted.contract.app import SecretUse
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.idl_secrets import secret_use
from flyted.contract.names import printable, shortened

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[A-Z_][A-Z0-9_]*)\}|(?P<plain>[A-Z_][A-Z0-9_]*))")
_LOGIN = re.compile(r"(?P<scheme>https?://)(?P<login>[^/\s]*)@")
_INDEX = re.compile(
    r"UV_(?:DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|INDEX_[A-Z0-9_]+_(?:USERNAME|PASSWORD))"
)
_STEERS = re.compile(
    r"(?:UV|PIP|GIT|PYTHON|LD|SSL|XDG|CARGO|RUST|CC|CXX|LC)_|PYTHON|LD_|(?:PATH|HOME|TMPDIR|LANG|NETRC|CC|CXX)$|.*_PROXY$"
)
"""Variables that change what uv, git or Python do, such as which programs they run."""


def variable(name: str, where: str) -> str:
    """Return ``name`` if uv may get a variable of this name.

    Raises :class:`Unsupported` for a variable that would change what a build does.
    """
    if _INDEX.fullmatch(name) is None and _STEERS.match(name):
        raise Unsupported(
            f"{where}: {printable(name)} cannot hold a secret: it changes how the image is built",
            hint="use another variable in a URL, such as https://user:$TOKEN@…, or use UV_INDEX_NAME_PASSWORD",
        )
    return name


def machine_secrets(table: Mapping[str, str]) -> tuple[SecretUse, ...]:
    """Return the secrets of every build. ``table``: variable → secret (flyted.toml(5), images.secrets).

    Raises :class:`InvalidInput` for a name that is not valid, :class:`Unsupported` as :func:`variable` does.
    """
    return tuple(SecretUse(key, env=variable(name, "images.secrets")) for name, key in sorted(table.items()))


def layer_secrets(mounts: Sequence[object], where: str) -> tuple[SecretUse, ...]:
    """Return the secrets of a layer (``secret_mounts=``; flyteidl2/core/security.proto).

    Raises :class:`Unsupported` for a secret that is asked for as a file, since uv reads none, for a group version, and
    as :func:`variable` does; :class:`InvalidInput` for a name that is not valid, and for what is no map.
    """
    maps = [dict(each) for each in mounts if isinstance(each, Mapping)]
    if len(maps) < len(mounts):
        raise InvalidInput(f"{where}: secret_mounts must be a list of maps")
    uses = tuple(secret_use(each) for each in maps)
    for use in uses:
        if not use.env:
            raise Unsupported(
                f"{where}: secret '{use.key}' is a file, which layers of pip packages do not support",
                hint=f'flyte.Secret(key="{use.key}", as_env_var="TOKEN")',
            )
        variable(use.env, where)
    return uses


def spelled(text: str, names: Collection[str], where: str) -> tuple[str, str]:
    """Return ``text`` as uv is to read it, and the same text without logins, for checks and messages.

    Raises :class:`Unsupported` for a login without a secret: it would be stored in clear, so the message does not show
    it. Raises :class:`InvalidInput` for a variable that is not among ``names``.
    """

    def braced(found: re.Match[str]) -> str:
        name = found["braced"] or found["plain"]
        if name not in names:
            name = shortened(name)
            raise InvalidInput(
                f"{where}: ${name} is not a secret of this layer",
                hint=f'secret_mounts=flyte.Secret(key="{name}", as_env_var="{name}")',
            )
        return f"${{{name}}}"

    if any(_VARIABLE.search(found["login"]) is None for found in _LOGIN.finditer(text)):
        raise Unsupported(
            f"{where}: a URL with a user or password would be stored unencrypted",
            hint="flytectl secret create INDEX_TOKEN; then https://user:$INDEX_TOKEN@… and "
            'secret_mounts=flyte.Secret(key="INDEX_TOKEN")',
        )
    return _VARIABLE.sub(braced, text), _LOGIN.sub(r"\g<scheme>", _VARIABLE.sub("x", text))


def distinct(uses: Iterable[SecretUse]) -> tuple[SecretUse, ...]:
    """Return each use once. Raises :class:`InvalidInput` if two secrets would be the same variable."""
    found = tuple(dict.fromkeys(uses))
    names = [use.env for use in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InvalidInput(f"the image has two secrets as variable {twice[0]}", hint="set as_env_var= on one of them")
    return found
