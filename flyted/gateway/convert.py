"""Flyte's ``App`` → what flyted takes. What only the gateway knows is looked up here: images and uploads by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flyteidl2.app import app_definition_pb2
from google.protobuf.json_format import MessageToDict

from flyted.contract import code
from flyted.contract.app import AppSpec
from flyted.contract.errors import NotFound, Unsupported
from flyted.contract.idl import spec_of
from flyted.contract.names import AppKey, shown
from flyted.gateway import newer
from flyted.gateway.blobs import Blobs, place_of
from flyted.gateway.recipes import Recipes, name_of, uri_of

BASE = re.compile(r"ghcr\.io/flyteorg/flyte:py(?P<python>3\.\d{1,2})-v\d[0-9A-Za-z.]{0,40}")
"""Flyte's own image: what an app without an image of its own is given. No build is asked for it."""


def key_of(identifier: app_definition_pb2.Identifier) -> AppKey:
    """The app that a client names; the organisation says nothing on one machine. Raises :class:`InvalidInput`."""
    return AppKey(identifier.project, identifier.domain, identifier.name)


def described(app: app_definition_pb2.App, recipes: Recipes, blobs: Blobs) -> tuple[AppSpec, Path | None]:
    """(what shall run, its code bundle if it has one).

    Raises :class:`InvalidInput` or :class:`Unsupported` that name the field, and what to do.
    """
    # first what the whole description says, with any image: all that is wrong is told before what is missing
    for part in (app.metadata, app.spec):
        newer.check(part, f"the description of app {app.metadata.id.name!a}")
    idl = MessageToDict(app)
    spec_of(idl)
    image = _image(app.spec.container.image, recipes)
    path, digest = _bundle(app, blobs)
    files: dict[str, str] = image.get("files") or {}
    return spec_of(idl, image=image["spec"], image_files=files, bundle=digest), path


def looked_through(spec: AppSpec, bundle: Path) -> AppSpec:
    """What ``contract.code`` sees in the code, in ``spec``. It takes a moment: not for an event loop."""
    with bundle.open("rb") as file:
        return code.looked_through(spec, file)


def _image(uri: str, recipes: Recipes) -> dict[str, Any]:
    base = BASE.fullmatch(uri)
    if base is not None:
        return {"spec": {"baseImage": uri, "pythonVersion": base["python"]}, "files": {}}
    name = name_of(uri)
    if name is None:
        raise Unsupported(
            f"image {shown(uri)} is a container image, and nothing here runs containers",
            hint="set image.builder: remote in the config file (flytectl config init does), and build on "
            "flyte.Image.from_debian_base()",
        )
    found = recipes.find(name)
    if found is None:
        raise Unsupported(f"image {uri_of(name)} was not built here", hint="serve the app again: it is built then")
    return found


def _bundle(app: app_definition_pb2.App, blobs: Blobs) -> tuple[Path | None, str]:
    command = list(app.spec.container.command)
    end = command.index("--") if "--" in command else len(command)
    words = command[:end]
    if words[:1] != ["fserve"] or "--tgz" not in words[:-1]:
        return None, ""
    # the SDK uploads for the project of its configuration, whatever with_servecontext(project=…) says
    place = place_of(words[words.index("--tgz") + 1])
    try:
        blob = blobs.find(place)
    except NotFound as error:
        raise Unsupported(
            f"the code bundle {place.filename} is not here any more, and your client believes that it is",
            hint="run `flyte delete local-cache` and serve again",
        ) from error
    return blob.path, blob.sha256
