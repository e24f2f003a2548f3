"""``flytectl logs NAME``: show an app's output and systemd's and flyted's messages about it, of all revisions."""

from __future__ import annotations

import click

from flytectl.complete import complete_app
from flytectl.options import app_scope, as_json, out


@click.command()
@click.argument("name", shell_complete=complete_app)
@click.option("-f", "--follow", is_flag=True, help="Follow the log until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, 10_000),
    default=50,
    show_default=True,
    help="Number of past lines to show.",
)
@app_scope
@as_json
def logs(name: str, lines: int, project: str, domain: str, *, follow: bool, json_: bool) -> None:
    """Show an app's log."""
    from dataclasses import replace

    from flytectl import render
    from flytectl.daemon import call
    from flyted.contract.answers.events import Event, LogLine
    from flyted.contract.answers.machine import Done

    def show(event: Event) -> None:
        if isinstance(event, LogLine):
            out(render.to_json(replace(event, app=name), lines=True) if json_ else render.log_line(event))

    args = {"project": project, "domain": domain, "name": name, "lines": lines, "follow": follow}
    call(Done, "app.logs", args, on_event=show)
