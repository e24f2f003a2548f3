"""``flytectl image …``: the images of this machine, what is in them, and who uses them."""

from __future__ import annotations

import click

from flytectl.complete import complete_image
from flytectl.options import as_json, out, say


@click.command()
@as_json
def ls(*, json_: bool) -> None:
    """List the images of this machine, the newest first.

    Images share files: together they take less of the disk than the sum of their sizes.
    """
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.images import ImageList

    images = call(ImageList, "image.list").images
    if json_:
        out(render.to_json({"images": images}))
        return
    if images:
        out(tables.images_table(images))
    else:
        say("no images; the first app that is served makes one: flytectl serve FILE")


@click.command()
@click.argument("hash_", metavar="HASH", shell_complete=complete_image)
@as_json
def get(hash_: str, *, json_: bool) -> None:
    """Show an image: its layers, how long each took, and the apps that use it.

    HASH may be cut to the first digits that no other image has.
    """
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.images import ImageEntry

    image = call(ImageEntry, "image.get", {"hash": hash_})
    out(render.to_json(image) if json_ else tables.image_text(image))
