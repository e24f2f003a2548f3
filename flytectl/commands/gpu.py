"""``flytectl gpu …``: look at this machine's GPUs."""

from __future__ import annotations

import click

from flytectl.options import as_json, out, say


@click.command()
@as_json
def ls(*, json_: bool) -> None:
    """List GPUs, their memory, and which app holds which since when."""
    from flytectl import render
    from flytectl.daemon import call

    found = call("gpu.list")
    if json_:
        gpus = [render.fields(gpu, render.GPU_FIELDS) for gpu in found["gpus"]]
        out(render.to_json({**{name: found[name] for name in ("driver", "cuda", "reason")}, "gpus": gpus,
                            "waiting": found["waiting"]}))  # fmt: skip
        return
    text = render.gpus_table(found)
    if text:
        out(text)
    if not found["gpus"]:
        say(f"no GPUs: {render.safe(found.get('reason') or 'the driver finds none')}")
