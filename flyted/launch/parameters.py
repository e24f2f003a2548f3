"""Decodes the app's parameters, sets them as variables, and writes them where ``flyte.app.get_parameter`` looks.

Follows ``sync_parameters`` and ``main`` of flyte/_bin/serve.py. Plain strings and addresses of other apps are decoded
here, without importing flyte; files and folders are left to Flyte's own function, which can fetch them.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

from .bundle import write_whole
from .options import check_variable
from .refused import Refused
from .workdir import own_path

FILE = "flyte-parameters.json"  # flyte/app/_parameter.py RUNTIME_PARAMETERS_FILE: name of the file and of a variable
_ENDPOINT_PATTERN = "INTERNAL_APP_ENDPOINT_PATTERN"


class Parameters:
    """The decoded parameters.

    ``plain``: name → text, for the file. ``bound``: name → value, for the server function's arguments. ``variables``:
    the variables to set.
    """

    def __init__(self, plain: dict[str, str], bound: dict[str, Any], variables: dict[str, str]) -> None:
        self.plain, self.bound, self.variables = plain, bound, variables


def decode(transport: str, dest: str, environ: MutableMapping[str, str]) -> Parameters:
    """Decode ``--parameters`` (base64 of gzip of JSON), and fetch its files and folders to ``dest``.

    Raise ``Refused`` if it cannot be read, sets a variable that an app may not set, or needs an unknown address.
    Exceptions of the SDK's own fetching are passed on.
    """
    if not transport:
        return Parameters({}, {}, {})
    items = _items(transport)
    for item in items:
        if item.get("env_var"):
            check_variable(str(item["env_var"]), f"parameter {item['name']!a}")
    if any(item.get("download") or item.get("type") in ("file", "directory") for item in items):
        import asyncio

        from flyte._bin.serve import sync_parameters  # the app's own SDK

        return Parameters(*asyncio.run(sync_parameters(transport, dest)))
    plain = {item["name"]: _value(item, environ) for item in items}
    variables = {item["env_var"]: plain[item["name"]] for item in items if item.get("env_var")}
    return Parameters(plain, dict(plain), variables)


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


def _value(item: dict[str, Any], environ: MutableMapping[str, str]) -> str:
    if item.get("type") != "app_endpoint":
        return str(item["value"])
    pattern = environ.get(_ENDPOINT_PATTERN)
    try:
        other = json.loads(item["value"])
        if pattern is None or other.get("public"):
            raise Refused(f"parameter {item['name']!a} is the address of another app: not supported yet")
        return pattern.format(app_fqdn=other["app_name"])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise Refused(f"parameter {item['name']!a} is not the address of an app") from None
