"""Prepares the app's process: its output, its variables and its import path."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import MutableMapping

from . import host
from .words import OURS

_RAW_DATA_TEMPLATE = "{{.rawOutputDataPrefix}}"  # flyte/app/_app_environment.py container_cmd
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


def say(line: str) -> None:
    """Print a line of flyted's to stderr, among the app's own output."""
    tell(f"{OURS}{line}\n")


def tell(text: str) -> None:
    """Print ``text`` to ``sys.stderr``, or to the descriptor if the app has closed or removed ``sys.stderr``."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:  # noqa: BLE001 - the object may be one of the app's
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors="backslashreplace"))


def flush() -> None:
    """Write out what ``sys.stdout`` and ``sys.stderr`` hold back, unless the app has closed or removed them."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the object may be one of the app's
            stream.flush()


def unbuffer() -> None:
    """Make stdout and stderr line-buffered, so that lines reach the journal immediately, and before a kill.

    Python's ``-I`` ignores ``PYTHONUNBUFFERED``.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def furnish(environ: MutableMapping[str, str], cache: str) -> None:
    """Set the variables that a container would have: the image's programs first in ``PATH``, and a writable home."""
    environ["CACHE_DIRECTORY"] = cache  # systemd's second folder is launch's own (workdir.py)
    if not host.runs_us():
        programs = os.path.dirname(sys.executable)
        folders = [each for each in (environ.get("PATH") or _DEFAULT_PATH).split(":") if each != programs]
        environ["PATH"] = ":".join([programs, *folders])
    environ["PYTHONUNBUFFERED"] = "1"  # for child processes
    if environ.get("HOME", "/") == "/":
        environ["HOME"] = first(environ, "STATE_DIRECTORY") or cache
    environ.setdefault("XDG_CACHE_HOME", os.path.join(cache, "xdg"))
    # The socket's only client is the ingress, which replaces X-Forwarded-*. Without this, redirects lead to http://.
    environ.setdefault("FORWARDED_ALLOW_IPS", "*")


def first(environ: MutableMapping[str, str], variable: str) -> str:
    """Return the first folder of systemd's ``CACHE_DIRECTORY`` or ``STATE_DIRECTORY``; "" if there is none."""
    return environ.get(variable, "").partition(":")[0]


def extend_path(environ: MutableMapping[str, str], folders: list[str]) -> None:
    """Put the app's folders first on ``sys.path``, each after the entries of ``_F_SYS_PATH`` below it.

    As Flyte's adjust_sys_path does, but with absolute paths: the app may change its working folder.
    """
    entries = [entry for entry in environ.get("_F_SYS_PATH", "").split(":") if entry]
    wanted = [os.path.abspath(os.path.join(folder, entry)) for folder in folders for entry in [*entries, ""]]
    wanted = list(dict.fromkeys(wanted))
    sys.path[:] = wanted + [entry for entry in sys.path if entry not in wanted]


def describe(environ: MutableMapping[str, str], project: str, domain: str, org: str) -> None:
    """Set the variables that ``flyte.app.ctx()`` and Flyte's client read, unless the app has set them.

    Sources: flyte/app/_context.py, flyte/_initialize.py.
    """
    names = {
        "FLYTE_INTERNAL_EXECUTION_PROJECT": project,
        "FLYTE_INTERNAL_EXECUTION_DOMAIN": domain,
        "_U_ORG_NAME": org,
    }
    for name, value in names.items():
        if value:
            environ.setdefault(name, value)


def raw_data(environ: MutableMapping[str, str], path: str) -> None:
    """Set the app's path for raw data; the template, which a cluster fills in, becomes a folder of its state.

    Raise ``OSError`` if the folder cannot be made.
    """
    path = path or _RAW_DATA_TEMPLATE  # the SDK writes only this (flyte/app/_app_environment.py container_cmd)
    if _RAW_DATA_TEMPLATE in path:
        folder = os.path.join(first(environ, "STATE_DIRECTORY") or first(environ, "CACHE_DIRECTORY"), "raw")
        os.makedirs(folder, exist_ok=True)
        path = path.replace(_RAW_DATA_TEMPLATE, folder)
    environ["_FLYTE_APP_RAW_DATA_PATH"] = path  # flyte/app/_context.py reads it if no context is set
