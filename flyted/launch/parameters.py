"""Decodes the app's parameters, sets them as variables, and writes them where ``flyte.app.get_parameter`` looks.

Follows ``sync_parameters`` and ``main`` of flyte/_bin/serve.py. Strings, addresses of other apps and paths of this
machine are decoded here, without importing flyte; what is in a storage is fetched by the app's own SDK (fetch.py).
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

from .bundle import write_whole
from .notify import Notifier
from .options import check_variable
from .refused import Refused
from .surroundings import say
from .words import ENDPOINTS
from .workdir import own_path

FILE = "flyte-parameters.json"  # flyte/app/_parameter.py RUNTIME_PARAMETERS_FILE: name of the file and of a variable


class Parameters:
    """The decoded parameters.

    ``plain``: name → text, for the file. ``bound``: name → value, for the server function's arguments. ``variables``:
    the variables to set.
    """

    def __init__(self, plain: dict[str, str], bound: dict[str, Any], variables: dict[str, str]) -> None:
        self.plain, self.bound, self.variables = plain, bound, variables


def decode(transport: str, environ: MutableMapping[str, str], *, bind: bool = False) -> Parameters:
    """Decode ``--parameters`` (base64 of gzip of JSON), and fetch its files and folders.

    ``bind``: make the values for a server function, of which files and folders are objects of the SDK. Raise
    ``Refused`` if it cannot be read, sets a variable that an app may not set, needs an unknown address, or has a file
    or folder that cannot be had.
    """
    if not transport:
        return Parameters({}, {}, {})
    items = _items(transport)
    for item in items:
        if item.get("env_var"):
            check_variable(str(item["env_var"]), f"parameter {item['name']!a}")
    paths: dict[str, str] = {}
    if any(item.get("type") in ("file", "directory") for item in items):
        from . import fetch

        notifier = Notifier(environ.get("NOTIFY_SOCKET"))

        def tell(text: str) -> None:
            say(text)  # in the log, for a start that takes too long
            notifier.status(text)

        paths = fetch.paths(items, environ, tell)
    plain = {item["name"]: paths.get(item["name"]) or _value(item, environ) for item in items}
    variables = {item["env_var"]: plain[item["name"]] for item in items if item.get("env_var")}
    bound = {item["name"]: _object(item, plain[item["name"]]) for item in items} if bind else dict(plain)
    return Parameters(plain, bound, variables)


def publish(parameters: Parameters, environ: MutableMapping[str, str]) -> None:
    """Set the variables, and write ``flyte-parameters.json`` for this revision alone, complete or not at all.

    Raise ``OSError`` if it cannot be written.
    """
    environ.update(parameters.variables)
    path = own_path(environ, FILE)
    write_whole(path, parameters.plain)
    environ[FILE] = path


def _items(transport: str) -> list[dict[str, Any]]:
    import base64
    import gzip
    import zlib

    try:
        items = json.loads(gzip.decompress(base64.b64decode(transport)))["parameters"]
        if all(isinstance(item["name"], str) and isinstance(item["value"], str) for item in items):
            return list(items)
    except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error, RecursionError):
        pass
    raise Refused("the app's --parameters cannot be read")


def _object(item: dict[str, Any], value: str) -> Any:
    if item.get("type") not in ("file", "directory"):
        return value
    from flyte import io  # the app's own SDK

    return io.File(path=value) if item["type"] == "file" else io.Dir(path=value)


def _value(item: dict[str, Any], environ: MutableMapping[str, str]) -> str:
    if item.get("type") != "app_endpoint":
        return str(item["value"])
    pattern = environ.get(ENDPOINTS)
    try:
        other = json.loads(item["value"])
        if pattern is None or other.get("public"):  # flyted refuses these at a deploy
            raise Refused(f"parameter {item['name']!a} is the address of an app that this one may not call")
        return pattern.format(app_fqdn=other["app_name"])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise Refused(f"parameter {item['name']!a} is not the address of an app") from None
