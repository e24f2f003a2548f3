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
    from flytectl.times import for_json

    found = call("gpu.list")
    if json_:
        gpus = [render.fields(gpu, render.GPU_FIELDS) for gpu in found["gpus"]]
        out(render.to_json({**{name: found[name] for name in ("driver", "cuda", "reason")}, "gpus": gpus,
                            "waiting": for_json(found["waiting"])}))  # fmt: skip
        return
    text = tables.gpus_table(found)
    if text:
        out(text)
    if not found["gpus"]:
        say(f"no GPUs: {render.safe(found.get('reason') or 'the driver finds none')}")
