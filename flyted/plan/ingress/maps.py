"""Renders the tables of the ingress as the files that HAProxy reads when it starts. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from flyted.plan.ingress import clients
from flyted.plan.ingress import paths as ingress_paths
from flyted.plan.ingress.auth import GUARDED
from flyted.plan.ingress.no_wake import AWAKE, UNCOUNTED
from flyted.plan.ingress.start_page import COLD, STEPS
from flyted.plan.ingress.state import (
    AUTHORITIES,
    CALLERS,
    CALLS,
    CHALLENGES,
    DOMAINS,
    HOSTS,
    KEPT,
    NAMES,
    REDIRECTS,
    STICKY,
    TIMEOUTS,
    UNAVAILABLE,
    WATCHED,
    IngressState,
    reason_values,
)


def render_maps(state: IngressState, known: IngressState | None = None) -> dict[str, str]:
    """Return the maps by file name; with ``known``, those only that differ from that state's.

    In a file a value extends to the end of its line, so nothing is escaped.
    """
    tables, before = _tables(state), _tables(known) if known is not None else {}
    return {file: map_text(table) for file, table in tables.items() if before.get(file) != table}


def _tables(state: IngressState) -> dict[str, Mapping[str, str | int]]:
    return {
        TIMEOUTS: state.timeouts_ms,
        UNAVAILABLE: reason_values(state),
        HOSTS: state.hosts,
        DOMAINS: state.domains,
        REDIRECTS: state.redirects,
        NAMES: state.names,
        CHALLENGES: state.challenges,
        AUTHORITIES: state.authorities,
        clients.LIMITS: state.limits,
        GUARDED: state.guarded,
        ingress_paths.RESTRICTED: state.restricted,
        ingress_paths.OPEN_PATHS: state.open_paths,
        STICKY: state.sticky,
        CALLERS: state.callers,
        CALLS: state.calls,
        WATCHED: state.watched,
        AWAKE: state.awake,
        COLD: state.cold,
        STEPS: state.steps,
        UNCOUNTED: {},  # HAProxy counts from 0 when it starts
        KEPT: {},  # a HAProxy that starts keeps no connection until flyted says so (kept.py)
    }


def map_text(table: Mapping[str, str | int]) -> str:
    """Return the text of a map's file."""
    return "".join(f"{key} {value}\n" for key, value in sorted(table.items()))
