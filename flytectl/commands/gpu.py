"""``flytectl gpu …``: look at this machine's GPUs."""

from __future__ import annotations

import click

from flytectl.options import as_json, out, say


@click.command()
@as_json
def ls(*, json_: bool) -> None:
    """List GPUs and the apps that hold them."""
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.gpus import GpuList

    found = call(GpuList, "gpu.list")
    if json_:
        out(render.to_json(found))
        return
    text = tables.gpus_table(found)
    if text:
        out(text)
    if not found.gpus:
        say(f"no GPUs: {render.safe(found.reason or 'the driver finds none')}")
