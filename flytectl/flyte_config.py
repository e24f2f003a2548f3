"""Writes the configuration of Flyte's command and SDK for this machine (flyte/config/_internal.py names its keys)."""

from __future__ import annotations

import json
import os
from pathlib import Path

from flyted.contract.answers.machine import GatewayPlace
from flyted.contract.errors import AlreadyExists, HostFailure
from flyted.contract.names import AppKey, at_port

FILE = Path(".flyte/config.yaml")
"""The path below the home folder: the last place where the SDK looks."""

_TEXT = """\
# Flyte's command and SDK talk to flyted on this machine. Written by: flytectl config init
admin:
  endpoint: {endpoint}
  caCertFilePath: {ca_file}
  authType: ExternalCommand
  command: ["flytectl", "token"]
  disableKeyring: true
task:
  org: local
  project: {project}
  domain: {domain}
image:
  builder: remote
# for flyted's companion of the SDK only
flyted:
  host: {host}
"""


def render(gateway: GatewayPlace, project: str, domain: str) -> str:
    """Return the file's text.

    Raise :class:`InvalidInput` for a name that Flyte or flyted refuses.
    """
    AppKey(project, domain, "app")
    endpoint = f"dns:///{at_port(gateway.host, gateway.https_port)}"
    quoted = {
        "endpoint": endpoint, "ca_file": gateway.ca_file, "project": project, "domain": domain, "host": gateway.host,
    }  # fmt: skip
    return _TEXT.format_map({name: json.dumps(value) for name, value in quoted.items()})


def check_new(path: Path, text: str = "") -> None:
    """Raise :class:`AlreadyExists` if the file has another text, :class:`HostFailure` if it cannot be read."""
    try:
        known = not path.exists() or path.read_text("utf-8", "replace") == text
    except OSError as error:
        raise HostFailure(f"cannot read {path}: {error.strerror}", hint=f"ls -ld {path}") from error
    if not known:
        raise AlreadyExists(f"{path} already exists, with different contents", hint="add --force to replace it")


def write(path: Path, text: str, *, force: bool, mode: int = 0o644) -> None:
    """Write the text to ``path``, and make its folder. ``mode``: the file's, of which the umask takes away.

    Raise :class:`AlreadyExists` if the file has another text and ``force`` is false, :class:`HostFailure` if it cannot
    be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not force:
            check_new(path, text)
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as stream:
                stream.write(text)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise HostFailure(f"cannot write {path}: {error.strerror}", hint=f"ls -ld {path.parent}") from error
