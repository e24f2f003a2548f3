"""Decides about the step between running and stopped: an idle app is frozen, and its next request thaws it. Pure.

While units/flyted-freeze@.service of a replica is active, its processes are frozen: they keep their memory, and get no
processor. The unit thaws them by itself. flyted only begins it, looks whether a request came in between, and stops the
app if it stays frozen for long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flyted.contract.app import AppSpec
from flyted.contract.names import Replica, freezer_of
from flyted.plan.unit_index import AT_REST, UnitFact

POLICIES = ("auto", "always", "never")


@dataclass(frozen=True)
class FreezeRules:
    """The machine's settings. ``policy``: one of :data:`POLICIES`; it counts for apps that do not say themselves.

    ``stop_after_s``: seconds for which an app stays frozen before it is stopped; with ``always`` it stays so.
    """

    policy: str = "never"
    stop_after_s: float = 3600.0

    def may_freeze(self, spec: AppSpec) -> bool:
        """Report whether an idle app is frozen before it is stopped.

        One that holds GPUs never is: it would keep their memory, which others wait for.
        """
        if spec.gpu_count or spec.engine_sleep:
            return False
        return spec.idle == "freeze" if spec.idle else self.policy != "never"

    def frozen_s(self, spec: AppSpec) -> float:
        """Return the seconds for which an app stays frozen; infinite if only its next request ends that."""
        return math.inf if self.policy == "always" and not spec.idle else self.stop_after_s

    def stop_after(self, spec: AppSpec) -> float:
        """Return the seconds after which an app that was frozen is stopped; 0 if it never is, or is never frozen."""
        frozen_s = self.frozen_s(spec)
        return frozen_s if self.may_freeze(spec) and math.isfinite(frozen_s) else 0.0


def frozen(replica: Replica, units: Mapping[str, UnitFact]) -> bool | None:
    """Report whether the processes of a replica are frozen; ``None`` while that changes."""
    unit = units.get(freezer_of(replica))
    if unit is None or unit.active in AT_REST:
        return False
    return True if unit.active == "active" else None
