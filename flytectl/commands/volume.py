"""``flytectl volume …``: add, list and remove folders of this machine that apps may be given."""

from __future__ import annotations

import os

import click

from flytectl.complete import complete_volume
from flytectl.options import as_json, out, say


@click.command()
@click.argument("name")
@click.argument("folder", metavar="DIR", type=click.Path(readable=False))
@click.option("--ro", "read_only", is_flag=True, help="Apps may only read it.")
@as_json
def add(name: str, folder: str, *, read_only: bool, json_: bool) -> None:
    """Let apps have the folder DIR as volume NAME.

    Serve them with --volume NAME:/PATH. The error says what to do if they may not write to it. Needs root.
    """
    from flytectl import render
    from flytectl.daemon import call
    from flyted.contract.answers.volumes import VolumeStatus

    args = {"name": name, "folder": os.path.abspath(folder), "read_only": read_only}  # noqa: PTH100  as typed
    added = call(VolumeStatus, "volume.add", args)
    if json_:
        out(render.to_json(added))
        return
    mode = ":ro" if added.read_only else ""
    say(f"volume {render.safe(added.name)} is {render.safe(added.folder)}; to use it:")
    say(f"  flytectl serve --volume {render.safe(added.name)}:/mnt/{render.safe(added.name)}{mode} FILE")


@click.command()
@as_json
def ls(*, json_: bool) -> None:
    """List the volumes of this machine."""
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.volumes import VolumeList

    volumes = call(VolumeList, "volume.list").volumes
    if json_:
        out(render.to_json({"volumes": volumes}))
    elif volumes:
        out(tables.volumes_table(volumes))
    else:
        say("no volumes; to add one: sudo flytectl volume add NAME DIR")


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_volume)
@as_json
def rm(names: tuple[str, ...], *, json_: bool) -> int:
    """Remove volumes; keep their folders.

    No app may use them. Needs root.
    """
    from flytectl import render
    from flytectl.daemon import call
    from flytectl.each import each
    from flyted.contract.answers.volumes import VolumeStatus

    def forget(name: str) -> list[VolumeStatus]:
        removed = call(VolumeStatus, "volume.remove", {"name": name})
        if not json_:
            say(f"volume {render.safe(removed.name)} removed; folder {render.safe(removed.folder)} is unchanged")
        return [removed]

    return each(names, forget, "volumes", as_json=json_)
