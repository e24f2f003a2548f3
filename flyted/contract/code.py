"""Finds what an app's code needs and this machine does not have, before it is served. Reads the bundle. Pure.

No code of the bundle is run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import IO

from flyted.contract import calls, endpoints, may_call
from flyted.contract.app import AppSpec


def looked_through(spec: AppSpec, bundle: IO[bytes], *, known: bool = False) -> AppSpec:
    """Return ``spec`` with what the code of ``bundle`` (tar.gz) shows.

    This is a sentence in ``unmet`` for each thing that may fail, and the apps that it may call since it depends on
    them. ``known``: whether ``spec`` has these already.
    """
    sources = endpoints.sources_of(bundle)
    named = endpoints.named_in(sources, spec.command)
    given = {name for name, _ in spec.env} | {secret.env for secret in spec.secrets}
    said = (*endpoints.notes(named, known=known), *calls.notes(sources, given))
    return replace(
        spec,
        unmet=(*spec.unmet, *said),
        calls=spec.calls if known else may_call.all_of((*spec.calls, *named.apps), spec.key.name),
    )
