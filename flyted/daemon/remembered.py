"""Remembers what one pass of the loop has to know of those before it. All times are of the loop's clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from flyted.contract.names import Replica
from flyted.plan.facts import Facts
from flyted.plan.idle import Clock
from flyted.plan.reconcile import Plan
from flyted.plan.scaling import Scale, dropped, to_look_at


class Remembered:
    """The clocks of idle apps, the replicas that drain, the numbers of replicas, and the services that stop."""

    def __init__(self) -> None:
        self.clocks: Mapping[str, Clock] = {}
        self._leaving: Mapping[Replica, float] = {}
        self._before: Mapping[Replica, float] = {}
        self._untold: frozenset[Replica] = frozenset()
        self._ending: Mapping[str, float] = {}
        self._scales: dict[str, Scale] = {}

    def added(self, facts: Facts) -> Facts:
        """Return the facts with what is remembered."""
        return dataclasses.replace(
            facts, leaving=dict(self._leaving), untold=self._untold, ending=self._ending, scales=dict(self._scales)
        )

    def take(self, plan: Plan) -> None:
        """Remember what a pass has decided."""
        self._before = self._leaving
        self._leaving, self._ending = dict(plan.leaving), plan.ending
        self.clocks, self._scales = dict(plan.clocks), dict(plan.scales)

    def told(self) -> None:
        """Note that the ingress has what the last pass decided: it sends no new request to what is leaving."""
        self._untold = frozenset()

    def not_told(self, plan: Plan) -> None:
        """Note that the ingress does not have it yet."""
        self._untold |= plan.leaving.keys() - self._before.keys()

    def keep(self, app_ids: Collection[str]) -> None:
        """Let the replicas of these apps, to which the ingress still sends requests, not leave yet."""
        self._leaving = {r: at for r, at in self._leaving.items() if r in self._before or r.app_id not in app_ids}

    def look_again(self) -> None:
        """Have all apps that may get replicas looked at: HAProxy has seen more load at one of them."""
        self._scales = {app_id: to_look_at(scale) for app_id, scale in self._scales.items()}

    @property
    def extra(self) -> dict[str, Replica]:
        """The replicas that apps run beyond their least ones, by the names of their services."""
        found = (
            Replica(app_id, scale.revision, number) for app_id, scale in self._scales.items() for number in scale.extra
        )
        return {replica.service: replica for replica in found}

    def give_up_extra(self, app_id: str) -> tuple[Replica, ...]:
        """Let an app have its least replicas only, until its load needs more again; return the others."""
        scale = self._scales.get(app_id)
        if scale is None:
            return ()
        self._scales[app_id] = dropped(scale, scale.extra)
        return tuple(Replica(app_id, scale.revision, number) for number in sorted(scale.extra))
