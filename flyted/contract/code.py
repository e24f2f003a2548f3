"""What an app's code asks for that is not here, seen before it is served: its bundle is read, and never run. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import IO

from flyted.contract import calls, endpoints
from flyted.contract.app import AppSpec


def looked_through(spec: AppSpec, bundle: IO[bytes]) -> AppSpec:
    """Returns ``spec`` with what may fail in the code of ``bundle`` (tar.gz) among what is said (``unmet``).

    Raises :class:`~flyted.contract.errors.Unsupported` for what certainly fails.
    """
    sources = endpoints.sources_of(bundle)
    given = {name for name, _ in spec.env} | {secret.env for secret in spec.secrets}
    said = (*endpoints.check(spec.key.name, sources, spec.command), *calls.notes(sources, given))
    return replace(spec, unmet=(*spec.unmet, *said)) if said else spec
