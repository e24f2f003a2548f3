"""Checks an app's ``args`` and ``command`` for what cannot work here, or does not mean what it seems to. Pure.

The check is made when the app is served, so that the error does not wait for a start.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput, Unsupported
from flyted.contract.fserve import parameters, program, split
from flyted.contract.names import printable
from flyted.contract.shell import UNCLOSED, Line, divided, read, variables_in
from flyted.plan.engines.registry import engine_in
from flyted.plan.engines.shape import shape_of

_KUBERNETES = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_ALWAYS = frozenset(
    (
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "PWD", "XDG_CACHE_HOME", "STATE_DIRECTORY",
        "CACHE_DIRECTORY", "INVOCATION_ID", "HF_HOME", "CUDA_VISIBLE_DEVICES", "PYTHONUNBUFFERED",
        "FORWARDED_ALLOW_IPS", "FLYTE_INTERNAL_EXECUTION_PROJECT", "FLYTE_INTERNAL_EXECUTION_DOMAIN",
        "FLYTE_SECRETS_DEFAULT_DIR",
    )
)  # fmt: skip
"""Variables that systemd, flyted and launch give to every app."""
_SHELLS = frozenset(("sh", "bash", "dash", "ash"))
_LINE = re.compile(r"-[a-z]*c")
_REMEDY = "let it read the variable or a file, or allow it: --allow-secret-in-argv"


def check(spec: AppSpec) -> None:
    """Raise :class:`InvalidInput` or :class:`Unsupported` for arguments that cannot work as they are written."""
    secrets = {use.env for use in spec.secrets if use.env}
    names = secrets | {name for name, _ in spec.env}
    for word in spec.command:
        if (found := _KUBERNETES.search(word)) and found[1] in names:
            raise Unsupported(
                f"app '{spec.key}': Kubernetes would replace $({found[1]}) with a value, and flyted does not",
                hint=f"use 'args' with ${found[1]}",
            )
    head, args = split(spec.command)
    if not head or not args:
        return
    line = read(args)
    if line.syntax == UNCLOSED:
        raise InvalidInput(
            f"app '{spec.key}': its args have {UNCLOSED}: {printable(line.text)}",
            hint="Flyte gives 'args' to a shell: write \\' for a quote that the program is to get",
        )
    if line.syntax:
        _check_line(spec, line, secrets)
    else:
        _check_words(spec, line, names, secrets)


def notes(spec: AppSpec) -> Iterator[str]:
    """Yield a line for each argument that may not do what a reader of the file expects."""
    head, args = split(spec.command)
    names = {name for name, _ in spec.env} | {use.env for use in spec.secrets if use.env}
    if not head:
        shape = shape_of(spec)
        words = shape.command if shape else spec.command
        for word in () if _runs_a_line(words) else words:
            if named := _named(word, names):
                yield f"'command' is passed on unchanged: the program gets the text {named}; use 'args' for its value"
        return
    line = read(args)
    if line.syntax:
        yield f"sh runs its args, as on a Flyte cluster, because of {line.syntax}"
        return
    for arg in divided(args):
        yield (
            f"argument {printable(arg)} is not one word for the shell to which Flyte passes 'args'; "
            f"to make it one, quote it: {printable(chr(39) + arg + chr(39))}"
        )
    for pieces in line.words:
        if named := _named("".join(piece.text for piece in pieces), names):
            yield f"{named} is within quotes, so the program gets this text and not a value"


def _runs_a_line(words: Sequence[str]) -> bool:
    """Report whether a program is a shell that runs its argument, and so puts in the values of variables by itself."""
    return len(words) > 2 and posixpath.basename(words[0]) in _SHELLS and _LINE.fullmatch(words[1]) is not None


def _named(text: str, names: Collection[str]) -> str:
    """Return the first of the variables ``names`` in a text, as it is written there; "" if there is none."""
    found = [match[0] for match in re.finditer(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?", text) if match[1] in names]
    return found[0] if found else ""


def _check_line(spec: AppSpec, line: Line, secrets: set[str]) -> None:
    """Check a line that a shell runs. Raises :class:`InvalidInput` or :class:`Unsupported`.

    Which program gets which argument is not known, so the line may name no secret, and may not start an engine whose
    own key is the only protection.
    """
    exposed = [name for name in line.names if name in secrets]
    if exposed and not spec.secret_in_argv:
        raise InvalidInput(
            f"app '{spec.key}': its args need a shell ({line.syntax}), and a program that the shell starts would show "
            f"secret {exposed[0]} to all users in its arguments",
            hint=f"leave out {line.syntax}; or {_REMEDY}",
        )
    engine = None if spec.requires_auth else engine_in(line.text.split())
    if engine is not None:
        raise Unsupported(
            f"app '{spec.key}': its args need a shell ({line.syntax}), so flyted cannot tell which paths of "
            f"{engine.name} its key protects",
            hint=f"leave out {line.syntax}, or let the ingress ask for a token: requires_auth=True",
        )


def _check_words(spec: AppSpec, line: Line, names: set[str], secrets: set[str]) -> None:
    known = names | _ALWAYS | set(_of_image(spec.image)) | set(_of_parameters(spec.command))
    missing = [name for name in line.names if name not in known]
    if missing:
        raise InvalidInput(
            f"app '{spec.key}': its args use ${missing[0]}, and the app has no secret or variable {missing[0]}",
            hint=f"add it to env_vars= or secrets=; to pass on the text itself, quote it: '${missing[0]}'",
        )
    words = program(spec.command)[1]
    exposed = [name for word in words[1:] for name in variables_in(word) if name in secrets]
    if exposed and words[0].startswith("/") and not spec.secret_in_argv:
        # For a program in the image this is known only at the start; launch refuses it then (launch/program.py).
        raise InvalidInput(
            f"app '{spec.key}': program {printable(words[0])} would show secret {exposed[0]} to all users in its "
            "arguments",
            hint=_REMEDY,
        )


def _of_image(image: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the variables that the image's layers set. plan/images checks the layers themselves."""
    recipe = image.get("spec")
    layers = recipe.get("layers") if isinstance(recipe, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        env = layer.get("env") if isinstance(layer, dict) else None
        variables = env.get("envVariables") if isinstance(env, dict) else None
        yield from variables if isinstance(variables, dict) else ()


def _of_parameters(command: Sequence[str]) -> Iterator[str]:
    yield from (str(each["env_var"]) for each in parameters(command) if each.get("env_var"))
