"""Checks what an app's parameters are called, which variables they set, and that the app can be given their values.

``launch`` checks the variables again at each start (launch/options.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flyted.contract import may_call
from flyted.contract.errors import InvalidInput
from flyted.contract.fserve import options
from flyted.contract.names import AppKey, env_name, printable
from flyted.contract.texts import MAX_TEXT

_FILES = ("file", "directory")


def check(app: AppKey, command: Sequence[str], parameters: Iterable[Mapping[str, Any]]) -> None:
    """Raise :class:`InvalidInput` for parameters with which the app could not start, or of which one hides another.

    ``command``: the container's, which has them as one argument.
    """
    names: set[str] = set()
    variables: set[str] = set()
    for parameter in parameters:
        name, value, variable = (parameter.get(field) for field in ("name", "value", "env_var"))
        what = f"app '{app}': parameter {printable(name)}"
        if not isinstance(name, str) or not name:
            raise InvalidInput(f"app '{app}': a parameter has no name")
        if not isinstance(value, str) or "\0" in value:
            raise InvalidInput(f"{what} has no value that a program can be given: {printable(value)}")
        if not value and parameter.get("type") in _FILES:
            raise InvalidInput(
                f"{what} names no {parameter['type']}", hint="give its path, or its address in a storage"
            )
        if app.name in may_call.in_parameters([parameter]):
            raise InvalidInput(
                f"{what} is the address of the app itself",
                hint="inside of an app, localhost is the app itself: http://localhost:PORT",
            )
        if name in names:
            raise InvalidInput(f"app '{app}' has two parameters {printable(name)}", hint="rename one of them")
        names.add(name)
        if variable:
            _check_variable(app, what, variable, variables)
    if any(len(word) > MAX_TEXT for word in options(command)):
        raise InvalidInput(
            f"the parameters of app '{app}' are too long: together at most some {MAX_TEXT} characters, compressed",
            hint="give a long text as a file: value=flyte.io.File(path=…)",
        )


def _check_variable(app: AppKey, what: str, variable: object, variables: set[str]) -> None:
    """Check a variable, and add it to ``variables``, those of the parameters before it."""
    try:
        name = env_name(variable)  # type: ignore[arg-type]  # it checks the type, too
    except InvalidInput as error:
        raise InvalidInput(f"{what}: {error.message}", hint=error.hint) from error
    if name in variables:
        raise InvalidInput(f"two parameters of app '{app}' set the variable {name}", hint="change one env_var=")
    variables.add(name)
