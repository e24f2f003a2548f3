"""``flytectl model …``: add, list and remove names of models that stand for folders of this machine."""

from __future__ import annotations

import os

import click

from flytectl.complete import complete_model
from flytectl.options import as_json, out, say


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
    from flyted.contract.answers.models import ModelStatus
    from flyted.contract.quantity import human_bytes

    args = {"name": name, "folder": os.path.abspath(folder)}  # noqa: PTH100  as typed
    added = call(ModelStatus, "model.add", args)
    if json_:
        out(render.to_json(added))
        return
    size = human_bytes(added.bytes)
    say(f"model {render.safe(added.name)} is {render.safe(added.folder)} ({size}); serve its apps again")


@click.command()
@as_json
def ls(*, json_: bool) -> None:
    """List the models of this machine."""
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.models import ModelList

    models = call(ModelList, "model.list").models
    if json_:
        out(render.to_json({"models": models}))
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
    from flyted.contract.answers.models import ModelStatus

    def forget(name: str) -> list[ModelStatus]:
        removed = call(ModelStatus, "model.remove", {"name": name})
        if not json_:
            say(f"model {render.safe(removed.name)} removed; folder {render.safe(removed.folder)} is unchanged")
        return [removed]

    return each(names, forget, "models", as_json=json_)
