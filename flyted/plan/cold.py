"""Decides which apps are cold, so that a visitor has to wait for a start, and tells visitors what a start does. Pure.

They read one of the sentences below, with numbers but without names: the reason why a start waits for a GPU, or what
it fetches, may name other apps and files, which no stranger is to know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from flyted.contract.names import Replica
from flyted.launch.words import FETCHING, LOADING
from flyted.plan.draft import Draft
from flyted.plan.facts import Facts, Revision, StoredApp
from flyted.plan.unit_index import UnitFact
from flyted.plan.units import socket_path

STARTS = "It is starting."
FIRST = "It is starting for the first time."
GPU = "It is waiting for a GPU"
FETCHES = "It is fetching its files"
CODE = "Its code is being loaded."
MODEL = "Its model is being loaded, which may take minutes."
_FETCHES = re.compile(rf"{FETCHING}.*, ([0-9]{{1,9}}\.[0-9] MiB)", re.DOTALL)
"""The status that launch sets when it fetches a parameter. An app can set the same, and so choose the number."""


def plan_visits(
    host: str, name: str, replicas: Sequence[Replica], woken: Replica, revision: Revision, facts: Facts, draft: Draft
) -> None:
    """Add an app to those that are cold, unless one of its replicas runs, and say what its start does.

    ``name``: the server or pool that its host leads to. ``replicas``: those that listen. ``woken``: the one of them
    that the next request wakes.
    """
    if any(_runs(facts.units.get(each.service)) for each in replicas):
        return
    draft.cold[name] = socket_path(woken)
    if step := step_of(replicas, revision, facts):
        draft.steps[host] = step


def first_step(app: StoredApp, facts: Facts) -> str:
    """Return what the first start of an app that has no revision to serve does; "" if it does not start."""
    replicas = sorted(each for each in facts.candidates if each.app_id == app.key.id)
    if not replicas or app.wanted == "stopped":
        return ""
    step = step_of(replicas, app.revision(replicas[0].revision), facts)
    return FIRST if step in ("", STARTS) else step


def step_of(replicas: Sequence[Replica], revision: Revision | None, facts: Facts) -> str:
    """Return what the first of these replicas that starts does; "" if none does."""
    found = (facts.units.get(each.service) for each in replicas)
    service = next((each for each in found if each is not None and each.active == "activating"), None)
    if service is None:
        return ""
    line = list(facts.gpu.waits)
    if service.name in line:
        return f"{GPU}: place {line.index(service.name) + 1} of {len(line)}."
    if (fetched := _FETCHES.fullmatch(service.status)) is not None:
        return f"{FETCHES}: {fetched[1]}."
    if revision is not None and revision.shape is not None:
        return MODEL
    return CODE if service.status.startswith(LOADING) else STARTS


def _runs(service: UnitFact | None) -> bool:
    """Report whether a service is up. One that is frozen, or whose engine sleeps, is: it answers soon."""
    return service is not None and service.active == "active"
