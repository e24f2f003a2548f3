"""Translates Flyte's ``App`` to an AppSpec, and looks up by name what only the gateway has: images and uploads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flyteidl2.app import app_definition_pb2
from google.protobuf import json_format

from flyted.contract import code
from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput, NotFound, Unsupported
from flyted.contract.fserve import options
from flyted.contract.idl import PICKLED, spec_of
from flyted.contract.names import AppKey, printable
from flyted.gateway.files.blobs import Blobs, place_of
from flyted.gateway.files.recipes import GUESS, Recipes, name_of
from flyted.gateway.idl import newer

BASE = re.compile(r"ghcr\.io/flyteorg/flyte:py(?P<python>3\.\d{1,2})-v\d[0-9A-Za-z.]{0,40}")
"""Flyte's own image, which the SDK gives an app without one of its own. The SDK asks for no build of it."""


def key_of(identifier: app_definition_pb2.Identifier) -> AppKey:
    """Return the key of the app that a client names; an organisation means nothing on one machine.

    Raise :class:`InvalidInput` for a bad name.
    """
    return AppKey(identifier.project, identifier.domain, identifier.name)


def described(app: app_definition_pb2.App, recipes: Recipes, blobs: Blobs) -> tuple[AppSpec, dict[str, Path]]:
    """Return the AppSpec of an app, and the files of its code bundle and of what its image copies, by SHA-256.

    Raise :class:`InvalidInput` or :class:`Unsupported`, which name the field and say what to do.
    """
    # first the whole description, without its image: its faults are reported before a missing image or upload
    for part in (app.metadata, app.spec):
        newer.check(part, f"the description of app {app.metadata.id.name!a}")
    idl = _json_of(app)
    spec_of(idl)
    image = _image(app.spec.container.image, recipes)
    path, digest = _bundle(app, blobs)
    files, folders = image.get("files") or {}, image.get("folders") or {}
    spec = spec_of(idl, image=image["spec"], image_files=files, image_folders=folders, bundle=digest)
    return spec, recipes.bundles(image) | ({} if path is None else {digest: path})


def looked_through(spec: AppSpec, bundle: Path) -> AppSpec:
    """Return ``spec`` with what ``contract.code`` finds in the code of ``bundle``.

    It takes a moment, so do not call it in an event loop.
    """
    with bundle.open("rb") as file:
        return code.looked_through(spec, file)


def _json_of(app: app_definition_pb2.App) -> dict[str, Any]:
    """Return metadata and spec of an app in protobuf-JSON; its status is flyted's to say, whatever a client sends."""
    try:
        return json_format.MessageToDict(app_definition_pb2.App(metadata=app.metadata, spec=app.spec))
    except (json_format.Error, TypeError) as error:  # TypeError: an Any of a type that is not known
        name = printable(app.metadata.id.name)
        raise InvalidInput(
            f"the description of app {name} has a duration, a time or a number that is out of range"
        ) from error


def _image(uri: str, recipes: Recipes) -> dict[str, Any]:
    base = BASE.fullmatch(uri)
    if base is not None:
        return {"spec": {"baseImage": uri, "pythonVersion": base["python"]}, "files": {}}
    if uri.startswith(GUESS):
        raise Unsupported(
            f"image {printable(uri)} was built by docker for a registry, which flyted does not have",
            hint="set image.builder: remote in the config file (flytectl config init does)",
        )
    name = name_of(uri)
    if name is None:  # an image of a registry, as it is
        return {"spec": {"baseImage": uri}, "files": {}}
    found = recipes.find(name)
    if found is None:
        raise Unsupported(f"image {uri} was not built on this machine", hint="serve the app again to build it")
    return found


def _bundle(app: app_definition_pb2.App, blobs: Blobs) -> tuple[Path | None, str]:
    words = options(app.spec.container.command)
    option = next((each for each in ("--tgz", PICKLED) if each in words[:-1]), "")
    if not option:
        return None, ""
    # the SDK uploads for the project of its configuration, whatever with_servecontext(project=…) says
    place = place_of(words[words.index(option) + 1])
    try:
        blob = blobs.find(place)
    except NotFound as error:
        raise Unsupported(
            f"the code bundle {place.filename} was deleted from this machine, but your client still refers to it",
            hint="run `flyte delete local-cache` and serve again",
        ) from error
    return blob.path, blob.sha256
