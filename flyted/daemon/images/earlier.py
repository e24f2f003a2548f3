"""Finds the units of builds and removals that an earlier flyted began and that still run.

The images and layers that such a build reads or writes are not known any more, so nothing is removed beside one. A
removal empties parts of the cache that a build reads, so nothing is built beside one. plan/upkeep.py decides that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flyted.daemon.effects import Units
from flyted.plan.unit_index import AT_REST

_PATTERNS = ("flyted-build-*.service", "flyted-layer-*.service", "flyted-pull-*.service")


@dataclass
class EarlierUnits:
    """The units that were found when this flyted started, as long as they run."""

    units: Units
    _names: frozenset[str] = field(default=frozenset())

    def find(self) -> None:
        """Find them, before this flyted begins any. Raises :class:`HostFailure` if systemd does not answer."""
        found = self.units.list(_PATTERNS)
        self._names = frozenset(each.name for each in found if each.active not in AT_REST)

    def heard(self, unit: str) -> bool:
        """Report whether the change of a unit may be the end of one of them; "" stands for any unit."""
        return unit in self._names or (not unit and bool(self._names))

    def running(self) -> frozenset[str]:
        """Return the names of those that still run. Raises :class:`HostFailure` if systemd does not answer."""
        self._names = frozenset(name for name in self._names if not self.units.rests(name))
        return self._names
