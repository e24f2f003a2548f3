"""Whether what ``flyte`` talks to is a flyted: only then the companion does anything.

It is one when the endpoint's host is ``flyted.localhost``, or the one that the configuration file itself marks, in a
section that the SDK does not read::

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
"""Hosts that the command line's own configuration marked: ``-c FILE`` is known to no other part of the SDK."""


def host_of(endpoint: object) -> str:
    """The host of an endpoint as the SDK takes it (``dns:///``, ``https://`` or nothing before it), or ""."""
    found = _ENDPOINT.match(endpoint) if isinstance(endpoint, str) else None
    return found[1].lower() if found else ""


def marked(file: Path | None) -> str:
    """The host that a configuration file marks as a flyted, or ""; what cannot be read marks nothing."""
    if file is None:
        return ""
    try:
        import yaml  # noqa: PLC0415  the SDK reads the file with it too

        section = yaml.safe_load(file.read_text("utf-8")).get("flyted")
        return host_of(section.get("host"))
    except Exception:  # noqa: BLE001  the SDK has its own words for a file that is no good
        return ""


def _is_flyted(endpoint: object, file: Path | None) -> bool:
    host = host_of(endpoint)
    return bool(host) and (host == HOST or host in _known or host == marked(file))


def command_line() -> Any:
    """The state of the ``flyte`` command that runs, or None in a script."""
    kind = getattr(sys.modules.get("flyte.cli._common"), "CLIConfig", ())
    context = click.get_current_context(silent=True)
    return context.obj if context is not None and isinstance(context.obj, kind) else None


def of_command() -> bool:
    """Whether the ``flyte`` command that runs talks to a flyted; an API key talks to somebody else."""
    state = command_line()
    if state is None or os.environ.get("FLYTE_API_KEY"):
        return False
    endpoint = state.endpoint or state.config.platform.endpoint
    if not _is_flyted(endpoint, state.config.source):
        return False
    _known.add(host_of(endpoint))
    return True


def of_process() -> bool:
    """Whether the SDK of this process is connected to a flyted. False while it is not connected."""
    from flyte import config  # noqa: PLC0415
    from flyte._initialize import get_client, get_init_config  # noqa: PLC0415

    try:
        endpoint = get_client().endpoint
    except Exception:  # noqa: BLE001  InitializationError, or what a newer SDK has
        return False
    if host_of(endpoint) in {HOST, *_known}:
        return True
    return _is_flyted(endpoint, get_init_config().source_config_path or config.auto().source)


def of_this_machine() -> bool:
    """Whether the SDK of this process is connected to the flyted of this machine, and not to one elsewhere."""
    from flyte._initialize import get_client  # noqa: PLC0415

    try:
        return host_of(get_client().endpoint) == HOST
    except Exception:  # noqa: BLE001  as above
        return False
