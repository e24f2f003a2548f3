"""``flytectl image …``: build images, list them, show what is in them and who uses them."""

from __future__ import annotations

import click

from flytectl.complete import complete_image, complete_secret
from flytectl.confirm import DECLINED, can_ask, may_delete, yes_option
from flytectl.options import app_scope, as_json, out, say


@click.command()
@click.argument("file", type=click.Path(readable=False))
@click.argument("environment", metavar="[ENV]", required=False)
@click.option(
    "--python", metavar="PYTHON", help="Import FILE with this Python: a program, a version or an environment folder."
)
@click.option("--as", "as_user", metavar="USER", help="As root: import FILE as USER.")
@app_scope
@as_json
def build(
    file: str, environment: str | None, python: str | None, as_user: str | None, project: str, domain: str, *,
    json_: bool,
) -> None:  # fmt: skip
    """Build the images of FILE.

    Build those of all its environments, or of ENV and what it depends on; serve no app.
    """
    from pathlib import Path

    from flytectl import render
    from flytectl.commands.serve import existing
    from flytectl.daemon import call, require_same_version, show
    from flytectl.each import listed
    from flytectl.load import load
    from flyted.contract.answers.apps import ImageStatus
    from flyted.contract.bundles import image_of

    path = existing(Path(file), "flytectl image build {} [ENV]")
    require_same_version()
    with (
        load(path, environment=environment, python=python, as_user=as_user, project=project, domain=domain) as loaded,
        listed("images", as_json=json_) as built,
    ):
        for app in loaded.apps:
            image = image_of(app.image, app.image_files, app.image_folders)
            sent = {digest: app.bundles[digest] for digest in app.image_folders.values()}
            args = {"project": project, "domain": domain, "image": image}
            found = call(ImageStatus, "image.build", args, bundles=sent, on_event=show)
            built.append(render.plain(found))
            if not json_:
                say(f"{render.safe(app.name)}: image {render.safe(found.hash)} is ready")


@click.command()
@as_json
def ls(*, json_: bool) -> None:
    """List images, the newest first.

    Images share files and layers, so together they take less disk space than the sum of their sizes.
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
        say("no images; serving an app builds one: flytectl serve FILE")


@click.command()
@click.argument("hash_", metavar="HASH", shell_complete=complete_image)
@as_json
def get(hash_: str, *, json_: bool) -> None:
    """Show an image, its layers and its users.

    HASH may be shortened to its first digits if no other image begins with them.
    """
    from flytectl import render, tables
    from flytectl.daemon import call
    from flyted.contract.answers.images import ImageEntry

    image = call(ImageEntry, "image.get", {"hash": hash_})
    out(render.to_json(image) if json_ else tables.image_text(image))


@click.command()
@click.argument("name")
@click.option(
    "--registry-secret",
    metavar="KEY",
    default="",
    shell_complete=complete_secret,
    help="Secret with the registry's login, as docker login writes it.",
)
@app_scope
@as_json
def pull(name: str, registry_secret: str, project: str, domain: str, *, json_: bool) -> None:
    """Pull a container image from its registry.

    Apps that use it then start without a download. It is kept for a week, or as long as an app uses it.
    """
    from flytectl import render, tables
    from flytectl.daemon import call, show
    from flyted.contract.answers.images import PulledImage

    args = {"project": project, "domain": domain, "name": name, "registry_secret": registry_secret}
    pulled = call(PulledImage, "image.pull", args, on_event=show)
    out(render.to_json(pulled) if json_ else tables.pulled_text(pulled))


@click.command()
@click.argument("hash_", metavar="HASH", shell_complete=complete_image)
@click.option("--no-deploy", is_flag=True, help="Do not redeploy the apps that use it.")
@as_json
def rebuild(hash_: str, *, no_deploy: bool, json_: bool) -> None:
    """Rebuild an image with today's packages.

    Then redeploy the apps that use it, one after the other. If the build fails, or no app starts in the new
    image, nothing changes.
    """
    from flytectl import render, tables
    from flytectl.daemon import call, show
    from flyted.contract.answers.images import Rebuilt

    rebuilt = call(Rebuilt, "image.rebuild", {"hash": hash_, "deploy": not no_deploy}, on_event=show)
    out(render.to_json(rebuilt) if json_ else tables.rebuilt_text(rebuilt))


@click.command()
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be deleted.")
@as_json
@yes_option
def prune(*, dry_run: bool, json_: bool, yes: bool) -> int:
    """Delete images that no app uses.

    Their layers and downloads are deleted too. Without this command, each is deleted a week after its last use.
    On a terminal, show them and ask first.
    """
    from flytectl import render, tables
    from flytectl.daemon import call, show
    from flyted.contract.answers.images import Pruned

    asks = not yes and not dry_run
    found = call(Pruned, "image.unused", on_event=show) if dry_run or (asks and can_ask()) else None
    if dry_run and found is not None:
        out(render.to_json(found) if json_ else tables.pruned_text(found, done=False))
        return 0
    lost = tables.pruned_text(found, done=False).split("\n") if found is not None else []
    if asks and not may_delete(lost, "Delete all of this?", "flytectl image prune --yes"):
        return DECLINED
    removed = call(Pruned, "image.prune", on_event=show)
    out(render.to_json(removed) if json_ else tables.pruned_text(removed, done=True))
    return 0
