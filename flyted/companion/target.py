"""Finds out whether ``flyte`` talks to a flyted: only then does the companion do anything.

It does if the endpoint's host is ``flyted.localhost``, or the host that the configuration file marks in a section that
the SDK does not read::

    flyted: {host: flyted.example.org}
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import click

HOST = "flyted.localhost"
_ENDPOINT = re.compile(r"^(?:dns:///|https?://)?([^/:]+)")

_known: set[str] = set()
"""Hosts marked by the configuration file of the command line: no other part of the SDK knows ``-c FILE``."""


def host_of(endpoint: object) -> str:
    """Return the host of an endpoint as the SDK takes it (after ``dns:///``, ``https://`` or nothing), or ""."""
    found = _ENDPOINT.match(endpoint) if isinstance(endpoint, str) else None
    return found[1].lower() if found else ""


def marked(file: Path | None) -> str:
    """Return the host that a configuration file marks as a flyted, or ""; an unreadable file marks none."""
    if file is None:
        return ""
    try:
        import yaml  # noqa: PLC0415  the SDK reads the file with it too

        section = yaml.safe_load(file.read_text("utf-8")).get("flyted")
        return host_of(section.get("host"))
    except Exception:  # noqa: BLE001  the SDK itself reports a bad file
        return ""


def _is_flyted(endpoint: object, file: Path | None) -> bool:
    host = host_of(endpoint)
    return bool(host) and (host == HOST or host in _known or host == marked(file))


def command_line() -> Any:
    """Return the state of the ``flyte`` command that runs, or None in a script."""
    kind = getattr(sys.modules.get("flyte.cli._common"), "CLIConfig", ())
    context = click.get_current_context(silent=True)
    return context.obj if context is not None and isinstance(context.obj, kind) else None


def of_command() -> bool:
    """Report whether the ``flyte`` command that runs talks to a flyted; with an API key it talks to another server.

    A host that is a flyted is remembered for :func:`of_process`.
    """
    state = command_line()
    if state is None or os.environ.get("FLYTE_API_KEY"):
        return False
    endpoint = state.endpoint or state.config.platform.endpoint
    if not _is_flyted(endpoint, state.config.source):
        return False
    _known.add(host_of(endpoint))
    return True


def of_process() -> bool:
    """Report whether the SDK of this process is connected to a flyted: False while it is not connected at all."""
    from flyte import config  # noqa: PLC0415
    from flyte._initialize import get_client, get_init_config  # noqa: PLC0415

    try:
        endpoint = get_client().endpoint
    except Exception:  # noqa: BLE001  InitializationError, or another one of a newer SDK
        return False
    if host_of(endpoint) in {HOST, *_known}:
        return True
    return _is_flyted(endpoint, get_init_config().source_config_path or config.auto().source)


def of_this_machine() -> bool:
    """Report whether the SDK of this process is connected to the flyted of this machine, not to one elsewhere."""
    from flyte._initialize import get_client  # noqa: PLC0415

    try:
        return host_of(get_client().endpoint) == HOST
    except Exception:  # noqa: BLE001  as above
        return False
