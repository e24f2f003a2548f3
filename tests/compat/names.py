"""Prints all names of the SDK that the Python which runs this has: ``python -m tests.compat.names``, one a line.

To be called in a folder without Python files. The first word is the kind: a *field*, as in ``fields.py``; a *command*;
a *method* of ``flyte.remote``, or a class of it; an *image*'s constructor or method; or a field of the *message* that
describes an app to a server, by its path there.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flyted.contract.idl_fields import KNOWN
from tests.compat import commands, fields, remote

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

KINDS = ("field", "command", "method", "image", "message")


def installed() -> list[str]:
    """Return ``KIND NAME`` of each, sorted."""
    from flyte import Image
    from flyteidl2.app.app_definition_pb2 import App

    image = {name for name, _ in inspect.getmembers(Image) if name.startswith(("from_", "with_")) or name == "clone"}
    found = (fields.known(), commands.known(), remote.known(), image, set(_paths(App.DESCRIPTOR, "")))
    return sorted(f"{kind} {name}" for kind, names in zip(KINDS, found, strict=True) for name in names)


def _paths(kind: Descriptor, path: str) -> Iterator[str]:
    """Yield the paths of the fields of a message that flyted reads, and of those in it."""
    for field in kind.fields:
        below = f"{path}.{field.json_name}" if path else field.json_name
        yield below
        if below in KNOWN and field.message_type:
            yield from _paths(field.message_type, below)


if __name__ == "__main__":
    print(*installed(), sep="\n")
