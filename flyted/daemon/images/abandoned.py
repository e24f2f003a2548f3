"""Stops the steps of images that an earlier flyted has left: only that one would have recorded what they make.

The builds of environments go on: a complete one counts, whoever requested it.
"""

from __future__ import annotations

import logging

from flyted.base import tasks
from flyted.daemon.effects import Units

UNITS = ("flyted-layer-*.service", "flyted-pull-*.service")
log = logging.getLogger(__name__)


def stop_abandoned(units: Units) -> None:
    """Begin to stop them, those of this moment and no later ones. Who wants the same step waits for its end."""
    for unit in units.list(UNITS):
        if not units.rests(unit.name):
            log.info("%s: stopped, because flyted was restarted while it ran", unit.name)
            tasks.begin(units.stop(unit.name))
