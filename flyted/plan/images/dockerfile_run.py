"""Reads RUN of a Dockerfile: its command, with here-documents, and what it mounts. Pure."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterator

from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.names import printable, secret_key
from flyted.plan.images.dockerfile_lines import Instruction
from flyted.plan.images.root import BuildSecret, Mount
from flyted.plan.images.text import Text, word

_KEYS = {
    "bind": {"type", "target", "source", "from", "rw"},
    "cache": {"type", "target", "id", "sharing", "mode", "uid", "gid"},
    "tmpfs": {"type", "target", "size"},
    "secret": {"type", "target", "id", "env", "required", "mode", "uid", "gid"},
}
"""Kind → the keys that it may have. What only says how a cache or a file is kept is not needed here."""
_TRUE = ("1", "t", "true")  # as Go's strconv.ParseBool, by which BuildKit reads it
_SAME = {"dst": "target", "destination": "target", "src": "source", "readwrite": "rw"}
_SCRIPT = "/tmp/flyted-script"  # noqa: S108 -- a folder of the step's own, which is in no layer
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def command_of(given: Instruction) -> str | tuple[str, ...]:
    """Return what is run: the words of the JSON form, else a text for the shell.

    A here-document that is the whole command is a script: for the shell, or for the program of its first line.
    Raises :class:`InvalidInput` for no command.
    """
    words = given.words()
    if words:
        return words
    if not given.rest:
        raise InvalidInput(f"{given.where}: the command is missing", hint="RUN COMMAND")
    if not given.documents:
        return given.rest
    whole = re.fullmatch(r"""<<-?(["']?)[^\s<>"']+\1""", given.rest) is not None
    first, text = given.documents[0].name, given.documents[0].text
    if not whole:
        return given.rest + "\n" + "".join(f"{each.text}{each.name}\n" for each in given.documents)
    if not text.startswith("#!"):
        return text
    program = shlex.join(text[2:].split("\n", 1)[0].split(None, 1))
    return f"cat > {_SCRIPT} <<'{first}'\n{text}{first}\nexec {program} {_SCRIPT}"


def mounts_of(given: Instruction) -> dict[str, list[dict[str, str]]]:
    """Return the values of each ``--mount``, by its kind.

    Raises :class:`Unsupported` for another kind or key, :class:`InvalidInput` for one without a needed value.
    """
    found: dict[str, list[dict[str, str]]] = {kind: [] for kind in _KEYS}
    for values in _mounts(given):
        kind = values.get("type", "bind")
        if kind not in _KEYS:
            raise Unsupported(
                f"{given.where}: --mount=type={printable(kind)} is not supported",
                hint="use bind, cache, tmpfs or secret; for a key of ssh, use https with a token as a secret",
            )
        if unknown := sorted(set(values) - _KEYS[kind]):
            key = printable(unknown[0])
            raise Unsupported(f"{given.where}: key {key} of a {kind} mount is not supported", hint="remove it")
        if kind != "secret" and not values.get("target"):
            raise InvalidInput(f"{given.where}: --mount has no target=", hint=f"--mount=type={kind},target=/path")
        found[kind].append(values)
    return found


def mount_of(values: dict[str, str], given: Instruction, stage: Callable[[str, str], int]) -> Mount:
    """Return a bind mount. ``stage``: returns the number of the stage or image that ``from=`` names."""
    origin = values.get("from", "")
    return Mount(
        _text(values.get("source", "."), given),
        target_of(values, given),
        stage(origin, given.where) if origin else None,
        values.get("rw", "false") == "true",
    )


def target_of(values: dict[str, str], given: Instruction) -> Text:
    """Return the place of a mount in the image."""
    return _text(values["target"], given)


def secret_of(values: dict[str, str], given: Instruction) -> BuildSecret:
    """Return a secret, named by ``id=``; without ``required`` the step can do without (Dockerfile reference, RUN).

    Raises :class:`InvalidInput` for a name that is not valid, :class:`Unsupported` for both a variable and a file.
    """
    target, variable = values.get("target", ""), values.get("env", "")
    key = secret_key(values.get("id") or posixpath.basename(target))
    if variable and target:
        raise Unsupported(f"{given.where}: a secret is either env= or target=", hint="mount it twice")
    if variable and _VARIABLE.fullmatch(variable) is None:
        raise InvalidInput(f"{given.where}: {printable(variable)} is not a valid name of a variable")
    optional = values.get("required", "false").lower() not in _TRUE
    if variable:
        return BuildSecret(key, variable, optional=optional)
    if "$" in target:
        raise Unsupported(f"{given.where}: a variable in target= of a secret is not supported", hint="write the path")
    file = posixpath.normpath(posixpath.join("/", target or f"/run/secrets/{key.rpartition('/')[2]}"))
    if not file.strip("/"):
        raise InvalidInput(f"{given.where}: nothing can be mounted over the image's /", hint="use another target=")
    return BuildSecret(key, file=file.replace("//", "/"), optional=optional)


def _mounts(given: Instruction) -> Iterator[dict[str, str]]:
    for option, text in given.options:
        if option == "mount":
            values: dict[str, str] = {}
            for part in text.strip("\"'").split(","):
                key, equals, value = part.partition("=")
                key = key.strip().lower()
                if key in {"ro", "readonly"}:
                    key, value, equals = "rw", "true" if value == "false" else "false", "="
                values[_SAME.get(key, key)] = value.strip("\"'") if equals else "true"
            yield values


def _text(value: str, given: Instruction) -> Text:
    return word(value, given.where, given.escape)
