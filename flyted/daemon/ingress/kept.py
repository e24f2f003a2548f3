"""Ends the connections that the ingress keeps to a replica, before it is stopped."""

from __future__ import annotations

import logging

from flyted.contract.errors import IngressDown
from flyted.contract.names import Replica
from flyted.daemon.effects import Effects
from flyted.plan.ingress.ports import INGRESS_UNIT

log = logging.getLogger(__name__)


async def end_kept(machine: Effects, replica: Replica) -> None:
    """Have the ingress end its kept connections to a replica that is to stop (``plan/ingress/kept.py``).

    An ingress that does not run has none, and connecting would start it. One that does not answer prevents no stop:
    launch, too, waits until such connections are gone.
    """
    ingress = machine.units.look().get(INGRESS_UNIT)
    if ingress is None or ingress.active != "active":
        return
    try:
        await machine.ingress.end_kept(replica.server)
    except IngressDown as error:
        log.warning("%s", error.message)
