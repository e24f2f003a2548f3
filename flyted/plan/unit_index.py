"""Holds the units of apps as systemd reports them, with the few that run apart from the many that sleep. Pure.

A pass of the planner looks at those that run, and compares the names of the others as a whole: so its cost grows with
what runs, and hardly with what exists. An index never changes: :meth:`UnitIndex.replaced` makes the next one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from flyted.contract.names import frozen_by, replica_of

AT_REST = ("inactive", "failed")
"""The states (ActiveState) of a unit that has ended, or never ran."""


@dataclass(frozen=True)
class UnitFact:
    """A unit as systemd reports it (org.freedesktop.systemd1(5), ListUnitsByPatterns).

    ``status``: what its main process says of itself (StatusText); read only for units for which that matters.
    """

    name: str
    load: str
    active: str
    sub: str
    status: str = ""


class UnitIndex(Mapping[str, UnitFact]):
    """Units by name.

    ``facts``: the same as a dict. ``sleeping``: the services of the pairs that sleep: their socket is active, and they
    have ended or are not loaded. ``others``: all units but those of pairs that sleep. ``by_app``: the names of each
    app's units, by its id.
    """

    __slots__ = ("by_app", "facts", "others", "sleeping")

    def __init__(self, units: Iterable[UnitFact] = ()) -> None:
        """Make an index of these units."""
        self.facts: dict[str, UnitFact] = {}
        self.sleeping: set[str] = set()
        self.others: dict[str, UnitFact] = {}
        self.by_app: dict[str, frozenset[str]] = {}
        self._put((), units)

    def replaced(self, names: Collection[str], units: Iterable[UnitFact]) -> UnitIndex:
        """Return an index with ``units`` in place of those of these names."""
        new = UnitIndex()
        new.facts, new.others = dict(self.facts), dict(self.others)
        new.sleeping, new.by_app = set(self.sleeping), dict(self.by_app)
        new._put(names, units)
        return new

    def of_app(self, app_id: str) -> UnitIndex:
        """Return the units of one app."""
        return UnitIndex(self.facts[name] for name in self.by_app.get(app_id, ()))

    def __getitem__(self, name: str) -> UnitFact:
        """Return the unit of this name, or raise :class:`KeyError`."""
        return self.facts[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.facts)

    def __len__(self) -> int:
        """Return how many units there are."""
        return len(self.facts)

    def _put(self, names: Collection[str], units: Iterable[UnitFact]) -> None:
        touched = set(names)
        for name in names:
            self.facts.pop(name, None)
        for unit in units:
            self.facts[unit.name] = unit
            touched.add(unit.name)
        for stem in {name.rpartition(".")[0] for name in touched}:
            self._sort_out(f"{stem}.socket", f"{stem}.service")
        for name in touched:
            if (replica := replica_of(name) or frozen_by(name)) is not None:
                self._file(name, replica.app_id)
            if not name.endswith((".socket", ".service")):  # a unit of another kind is in no pair
                self._keep_other(name)

    def _file(self, name: str, app_id: str) -> None:
        known = self.by_app.get(app_id, frozenset())
        if names := (known | {name}) if name in self.facts else (known - {name}):
            self.by_app[app_id] = names
        else:
            self.by_app.pop(app_id, None)

    def _sort_out(self, socket: str, service: str) -> None:
        listens, runs = self.facts.get(socket), self.facts.get(service)
        if listens is not None and listens.active == "active" and (runs is None or runs.active in AT_REST):
            self.sleeping.add(service)
            self.others.pop(socket, None)
            self.others.pop(service, None)
        else:
            self.sleeping.discard(service)
            self._keep_other(socket)
            self._keep_other(service)

    def _keep_other(self, name: str) -> None:
        if name in self.facts:
            self.others[name] = self.facts[name]
        else:
            self.others.pop(name, None)


def indexed(units: Mapping[str, UnitFact]) -> UnitIndex:
    """Return the index of units that are given by name."""
    return units if isinstance(units, UnitIndex) else UnitIndex(units.values())
