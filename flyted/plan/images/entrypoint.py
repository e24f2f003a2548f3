"""Replaces the command of an app without one by its image's program (ENTRYPOINT, CMD). Pure.

As on Kubernetes: without ``command`` the image's ENTRYPOINT is run, with the app's ``args`` instead of its CMD.

The revision keeps the app's words as they were written, and beside them the image's config and the manifests that its
names stood for; so a start, a wake and a renewal of secrets ask no registry.
"""

from __future__ import annotations

import dataclasses

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput
from flyted.contract.names import AppKey
from flyted.plan.facts import RootFact


def with_entrypoint(spec: AppSpec, root: RootFact) -> AppSpec:
    """Return the spec with the whole command. Raises :class:`InvalidInput` if the image has none.

    The image's own program starts in the image's working folder, and is given no code, as on a cluster.
    """
    if not spec.entrypoint:
        return spec
    command = (*root.entrypoint, *(spec.command or root.cmd))
    if not command:
        raise InvalidInput(
            f"the image of app '{spec.key}' names no program (ENTRYPOINT or CMD)", hint="give the app a command=[...]"
        )
    return dataclasses.replace(spec, command=command, entrypoint=False, bundle="")


def no_program(app: AppKey) -> InvalidInput:
    """Return the error for an app without a command, whose image is a Python environment."""
    return InvalidInput(
        f"app '{app}' needs a command or args: its image is an environment of packages and does not name a program",
        hint='name one: command=["uvicorn", "main:app"]',
    )
