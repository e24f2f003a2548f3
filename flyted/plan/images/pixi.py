"""Recognises the commands by which Flyte's SDK installs a pixi project, which has no layer in an ImageSpec. Pure.

Source: flyte/_internal/imagebuild/utils.py of the SDK 2.12.1, pixi_project_to_primitive_layers. It writes apt
packages, the two commands that are known here, copies and variables. All but these two are steps like others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from flyted.plan.images.root import BuildSecret, Run
from flyted.plan.images.text import literal

_CACHE = literal("/root/.cache/rattler")
"""Of packages, pixi's and those of the uv in it; the SDK's local builder keeps it out of the image, too."""
_FETCH = re.compile(
    r"if \[ ! -x (?P<pixi>/\S+/pixi) \]; then curl -fsSL (?P<address>https://\S+) \| "
    r"(?P<variables>[^\s=]+=\S+ )*bash; fi"
)
_VERSION = re.compile(r"PIXI_VERSION=(\S+)")
_INSTALL = re.compile(r"(?P<folder>/\S+/)pixi install .*")


def step(where: str, command: str, secrets: Sequence[BuildSecret]) -> Run | None:
    """Return the step of one of the two commands; ``None`` for any other command.

    The shell takes a download that failed for an empty script, which ends well. The layer would be kept, and no later
    build would try again; so the step also has to find the program.
    """
    if found := _FETCH.fullmatch(command):
        version = _VERSION.search(command)
        what = f"pixi {version[1]}" if version else "pixi"
        return Run(where, f"{command} && test -x {found['pixi']}", f"fetch {what} from {found['address']}")
    if found := _INSTALL.fullmatch(command):
        show = command.removeprefix(found["folder"])
        return Run(where, command, show, caches=(_CACHE,), secrets=tuple(secrets))
    return None
