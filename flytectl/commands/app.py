"""``flytectl app …``: look at and operate apps."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from flytectl.options import app_scope, as_json, complete_app, has_colour, out, say

_NAMES = click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_app)


@click.command()
@app_scope
@click.option("-A", "--all", "all_", is_flag=True, help="Of all projects and domains.")
@as_json
def ls(project: str, domain: str, *, all_: bool, json_: bool) -> None:
    """List apps: state, age and URL."""
    _list("" if all_ else project, "" if all_ else domain, json_=json_)


@click.command()
@click.argument("name", required=False, shell_complete=complete_app)
@app_scope
@as_json
def get(name: str | None, project: str, domain: str, *, json_: bool) -> None:
    """Show one app; without NAME, list all."""
    from flytectl import render
    from flytectl.daemon import call

    if name is None:
        _list(project, domain, json_=json_)
        return
    app = call("app.get", {"project": project, "domain": domain, "name": name})["app"]
    if json_:
        out(render.to_json(render.fields(app, render.APP_FIELDS)))
    else:
        out(render.app_details(app, has_colour(sys.stdout)))


@click.command()
@_NAMES
@app_scope
@as_json
def start(names: tuple[str, ...], project: str, domain: str, *, json_: bool) -> int:
    """Start apps, also after 'app stop'."""
    return _each("app.start", names, project, domain, json_=json_)


@click.command()
@_NAMES
@app_scope
@as_json
def stop(names: tuple[str, ...], project: str, domain: str, *, json_: bool) -> int:
    """Stop apps until 'app start' (503)."""
    return _each("app.stop", names, project, domain, json_=json_)


@click.command()
@_NAMES
@app_scope
@as_json
def sleep(names: tuple[str, ...], project: str, domain: str, *, json_: bool) -> int:
    """Stop apps until the next request wakes them."""
    return _each("app.sleep", names, project, domain, json_=json_)


@click.command()
@_NAMES
@app_scope
@as_json
def delete(names: tuple[str, ...], project: str, domain: str, *, json_: bool) -> int:
    """Delete apps and all their data."""
    return _each("app.delete", names, project, domain, json_=json_, said="deleted")


def _list(project: str, domain: str, *, json_: bool) -> None:
    from flytectl import render
    from flytectl.daemon import call

    apps: list[dict[str, Any]] = call("app.list", {"project": project, "domain": domain})["apps"]
    if json_:
        out(render.to_json({"apps": [render.fields(app, render.APP_FIELDS) for app in apps]}))
    elif apps:
        out(render.apps_table(apps, has_colour(sys.stdout), time.time()))
    else:
        where = "" if (project, domain) == ("", "") else f" in project '{project}', domain '{domain}'"
        say(render.safe(f"no apps{where}; flytectl serve FILE makes one" + (", --all lists all" if where else "")))


def _each(verb: str, names: tuple[str, ...], project: str, domain: str, *, json_: bool, said: str = "") -> int:
    """Does one verb to each app; a failure of one is told and does not stop the rest. Status of the last failure."""
    from flytectl import render
    from flytectl.daemon import call
    from flyted.contract.errors import FlytedError

    status, done = 0, []
    for name in names:
        try:
            app = call(verb, {"project": project, "domain": domain, "name": name}, on_event=_progress)["app"]
        except FlytedError as error:
            say(
                render.error_json(error.code, error.message, error.hint)
                if json_
                else render.error_text(error.message, error.hint)
            )
            status = error.exit_status
            continue
        done.append(render.fields(app, render.APP_FIELDS))
        if not json_:
            out(f"{render.safe(name)}: {said or render.safe(app.get('state'))}")
    if json_:
        out(render.to_json({"apps": done}))
    return status


def _progress(event: dict[str, Any]) -> None:
    from flytectl import render

    say(render.event_text(event, has_colour(sys.stderr)))
