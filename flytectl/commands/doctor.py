"""``flytectl doctor``: show what is wrong, and what to type. It works also when the daemon does not answer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from flytectl.options import as_json, has_colour, out

if TYPE_CHECKING:
    from flyted.contract.answers.machine import Check


@click.command()
@as_json
def doctor(*, json_: bool) -> int:
    """Check the installation.

    Exit status 1 when something is broken.
    """
    from flytectl import checks

    return shown(checks.run(), json_=json_)


def shown(found: Sequence[Check], *, json_: bool) -> int:
    """Print the results of checks; return the exit status, 1 if something is broken."""
    from flytectl import render

    broken = any(check.ok is False for check in found)
    if json_:
        out(render.to_json({"ok": not broken, "checks": found}))
    else:
        width = max(len(render.safe(check.name)) for check in found)
        for check in found:
            out(render.check_lines(check, width, has_colour(sys.stdout)))
    return int(broken)
