"""``flytectl model …``: add, list and remove names of models that stand for folders of this machine."""

from __future__ import annotations

import os
from typing import Any

import click

from flytectl.options import as_json, complete_model, out, say


@click.command()
@click.argument("name")
@click.argument("folder", metavar="DIR", type=click.Path(readable=False))
@as_json
def add(name: str, folder: str, *, json_: bool) -> None:
    """Use the files in DIR as model NAME.

    Apps that ask for NAME, as in model_hf_path=NAME, read it from there.
    """
    from flytectl import render
    from flytectl.daemon import call
    from flyted.contract.quantity import human_bytes

    added = call("model.add", {"name": name, "folder": os.path.abspath(folder)})["model"]  # noqa: PTH100  as typed
    if json_:
        out(render.to_json(render.fields(added, render.MODEL_FIELDS)))
        return
    size = human_bytes(added.get("bytes") or 0)
    say(f"model {render.safe(added['name'])} is {render.safe(added['folder'])} ({size}); serve its apps again")


@click.command()
@as_json
def ls(*, json_: bool) -> None:
    """List the models of this machine."""
    from flytectl import render, tables
    from flytectl.daemon import call

    models = call("model.list")["models"]
    if json_:
        out(render.to_json({"models": [render.fields(model, render.MODEL_FIELDS) for model in models]}))
        return
    if models:
        out(tables.models_table(models))
    else:
        say("no models; to add one: flytectl model add NAME DIR")


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_model)
@as_json
def rm(names: tuple[str, ...], *, json_: bool) -> int:
    """Remove models; keep their folders.

    Apps that are already served keep using them.
    """
    from flytectl import render
    from flytectl.daemon import call
    from flytectl.each import each

    def forget(name: str) -> list[dict[str, Any]]:
        removed = call("model.remove", {"name": name})["model"]
        if not json_:
            say(f"model {render.safe(removed['name'])} removed; folder {render.safe(removed['folder'])} is unchanged")
        return [render.fields(removed, render.MODEL_FIELDS)]

    return each(names, forget, "models", as_json=json_)
