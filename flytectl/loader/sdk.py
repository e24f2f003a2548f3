"""Looks up the entry points of the Flyte SDK by name.

Some are private. Each is looked up when it is needed, so that with an SDK of another version the error is one sentence
with the missing name, and not an AttributeError. Written against flyte 2.12.1.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from .failure import LoadError

KNOWN = "2.12.1"


def use(folder: str | None) -> None:
    """Put the SDK that came with flytectl first on ``sys.path``: ``folder/cpXY``, then ``folder``."""
    if folder:
        tied = Path(folder, f"cp{sys.version_info[0]}{sys.version_info[1]}")
        sys.path[:0] = [str(entry) for entry in (tied, Path(folder)) if entry.is_dir()]


def load() -> str:
    """Import the SDK; return its version. Telemetry is off: it would be a network call from a build step.

    Raise LoadError("no-sdk") if there is none, LoadError("sdk") if it cannot be imported.
    """
    os.environ["DO_NOT_TRACK"] = "1"
    try:
        flyte = importlib.import_module("flyte")
        importlib.import_module("flyte.app")
    except ModuleNotFoundError as error:
        if error.name != "flyte":
            raise LoadError("sdk", f"the Flyte SDK in {sys.prefix} is damaged: {error}") from error
        raise LoadError("no-sdk", f"{sys.executable} has no Flyte SDK") from error
    except Exception as error:
        message = f"the Flyte SDK in {sys.prefix} cannot be imported: {error}"
        raise LoadError("sdk", message) from error
    return str(getattr(flyte, "__version__", "unknown"))


def find(module: str, name: str) -> Any:
    """Return ``module.name`` of the SDK. Raise LoadError("sdk") if this version has none."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        version = getattr(sys.modules.get("flyte"), "__version__", "?")
        raise LoadError(
            "sdk",
            f"the Flyte SDK {version} in {sys.prefix} has no {module}.{name}",
            hint=f"flytectl was made for flyte {KNOWN}",
        ) from error


def initialise(root: Path, project: str, domain: str) -> None:
    """Initialize the SDK as ``flyte serve`` does before it imports a file, without a config file or an endpoint.

    Do nothing if the SDK has these settings already: the second call is for files that call ``flyte.init`` themselves.
    """
    config = find("flyte._initialize", "_get_init_config")()
    if config is not None and (config.root_dir, config.project, config.domain) == (root, project, domain):
        return
    path = list(sys.path)
    init = find("flyte", "init")
    try:
        # Plugins for task types cost seconds to import, and apps pass no typed values.
        init(root_dir=root, project=project, domain=domain, load_plugin_type_transformers=False)
    except TypeError:
        init(root_dir=root, project=project, domain=domain)
    sys.path[:] = path  # init appends the root each time
