"""``flytectl doctor``: show what is wrong, and what to type. It works also when the daemon does not answer."""

from __future__ import annotations

import sys

import click

from flytectl.options import as_json, has_colour, out


@click.command()
@as_json
def doctor(*, json_: bool) -> int:
    """Check the installation.

    Exit status 1 when something is broken.
    """
    from flytectl import checks, render

    found = checks.run()
    broken = any(check.ok is False for check in found)
    if json_:
        out(render.to_json({"ok": not broken, "checks": found}))
    else:
        width = max(len(render.safe(check.name)) for check in found)
        for check in found:
            out(render.check_lines(check, width, has_colour(sys.stdout)))
    return int(broken)
