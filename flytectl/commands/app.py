"""``flytectl app …``: look at and operate apps."""

from __future__ import annotations

import sys
import time

import click

from flytectl.complete import complete_app
from flytectl.confirm import DECLINED, can_ask, may_delete, scope_words, yes_option
from flytectl.options import app_scope, as_json, has_colour, out, say

_NAMES = click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_app)


@click.command()
@app_scope
@click.option("-A", "--all", "all_", is_flag=True, help="Include all projects and domains.")
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
    from dataclasses import replace

    from flytectl import render
    from flytectl.daemon import call
    from flyted.contract.answers.apps import Described, Kept
    from flyted.contract.errors import HostFailure

    if name is None:
        _list(project, domain, json_=json_)
        return
    args = {"project": project, "domain": domain, "name": name}
    app = call(Described, "app.get", args).app
    try:
        app = replace(app, data=call(Kept, "app.data", args).data)
    except HostFailure as error:  # without its data, the app is still worth showing
        say(f"note: {render.safe(error.message)}")
    if json_:
        out(render.to_json(app))
    else:
        out(render.app_details(app, has_colour(sys.stdout)))


@click.command()
@_NAMES
@app_scope
@as_json
def start(names: tuple[str, ...], project: str, domain: str, *, json_: bool) -> int:
    """Start apps, also failed and stopped ones."""
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
@yes_option
@click.option("--data", is_flag=True, help="Delete the apps' data as well.")
def delete(names: tuple[str, ...], project: str, domain: str, *, json_: bool, yes: bool, data: bool) -> int:
    """Delete apps; keep their data.

    The next apps of the same names take it over. On a terminal, show what will be lost and ask first. With --data,
    also delete what was kept of a deleted app.
    """
    keep_data = not data
    if not yes:
        from shlex import join

        words = ["flytectl", "app", "delete", "--yes", *(["--data"] if data else []), *names]
        typed = join([*words, *scope_words(project, domain, "default", "development")])
        lost = _lost(names, project, domain, keep_data=keep_data) if can_ask() else []
        what = names[0] if len(names) == 1 else f"these {len(names)} apps"
        if not may_delete(lost, f"Delete {what}?", typed):
            return DECLINED
    said = "deleted; its data is kept" if keep_data else "deleted"
    return _each("app.delete", names, project, domain, json_=json_, said=said, keep_data=keep_data)


def _lost(names: tuple[str, ...], project: str, domain: str, *, keep_data: bool) -> list[str]:
    """Return a line on what is lost with each app. Raise NotFound for an unknown name, before an app is deleted."""
    from flytectl import losses
    from flytectl.daemon import call
    from flyted.contract.answers.apps import Kept

    lost = []
    for name in names:
        found = call(Kept, "app.data", {"project": project, "domain": domain, "name": name})
        lost.append(losses.of_app(name, found, keep_data=keep_data))
    return lost


def _list(project: str, domain: str, *, json_: bool) -> None:
    from flytectl import render
    from flytectl.daemon import call
    from flyted.contract.answers.apps import AppList

    apps = call(AppList, "app.list", {"project": project, "domain": domain}).apps
    if json_:
        out(render.to_json({"apps": apps}))
    elif apps:
        out(render.apps_table(apps, has_colour(sys.stdout), time.time()))
    else:
        where = "" if (project, domain) == ("", "") else f" in project '{project}', domain '{domain}'"
        say(
            render.safe(
                f"no apps{where}; to serve one: flytectl serve FILE" + ("; to list all: --all" if where else "")
            )
        )


def _each(
    verb: str, names: tuple[str, ...], project: str, domain: str, *, json_: bool, said: str = "", **more: bool
) -> int:
    """Call a verb for each app, and print the results; return the exit status of the last failure, or 0."""
    from flytectl import render
    from flytectl.daemon import call, show
    from flytectl.each import each
    from flyted.contract.answers.apps import AppStatus

    def do(name: str) -> list[AppStatus]:
        app = call(AppStatus, verb, {"project": project, "domain": domain, "name": name, **more}, on_event=show)
        if not json_:
            out(f"{render.safe(name)}: {said or render.safe(app.state)}")
        return [app]

    return each(names, do, "apps", as_json=json_)
