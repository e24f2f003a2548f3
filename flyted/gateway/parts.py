"""Creates the objects that all handlers share: the client of flyted, and the gateway's stores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flyted.gateway.daemon import Daemon
from flyted.gateway.files.blobs import Blobs
from flyted.gateway.files.folders import Folders
from flyted.gateway.files.recipes import Recipes
from flyted.gateway.files.signing import Signer
from flyted.gateway.files.uploads import Uploads
from flyted.gateway.idl.specs import Specs
from flyted.gateway.services.jobs import Jobs
from flyted.gateway.slots import Slots
from flyted.plan.crowd import Room

READING = Room(users=2, shared=0, of_a_user=1)
"""Uploaded files that are read at a time: the code of a bundle takes up to 350 MiB of memory."""


@dataclass(frozen=True)
class Parts:
    """The shared objects of one gateway."""

    daemon: Daemon
    blobs: Blobs
    uploads: Uploads
    folders: Folders
    recipes: Recipes
    specs: Specs
    jobs: Jobs
    reading: Slots


def make(state: Path, daemon: Daemon) -> Parts:
    """Make the parts of a gateway that keeps its files below ``state``. Raise OSError if it cannot write there."""
    blobs, folders = Blobs(state / "blobs"), Folders(state / "folders")
    return Parts(
        daemon=daemon,
        blobs=blobs,
        uploads=Uploads(blobs, Signer.open(state / "upload.key")),
        folders=folders,
        recipes=Recipes(state / "recipes", folders),
        specs=Specs(state / "specs"),
        jobs=Jobs(daemon, state / "runs"),
        reading=Slots(READING),
    )
