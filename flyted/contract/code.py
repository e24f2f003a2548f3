"""Finds what an app's code needs and this machine does not have, before it is served. Reads the bundle. Pure.

No code of the bundle is run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import IO

from flyted.contract import calls, endpoints
from flyted.contract.app import AppSpec


def looked_through(spec: AppSpec, bundle: IO[bytes]) -> AppSpec:
    """Return ``spec`` with a sentence in ``unmet`` for each thing that may fail in the code of ``bundle`` (tar.gz).

    Raise :class:`~flyted.contract.errors.Unsupported` for code that certainly fails.
    """
    sources = endpoints.sources_of(bundle)
    given = {name for name, _ in spec.env} | {secret.env for secret in spec.secrets}
    said = (*endpoints.check(spec.key.name, sources, spec.command), *calls.notes(sources, given))
    return replace(spec, unmet=(*spec.unmet, *said)) if said else spec
