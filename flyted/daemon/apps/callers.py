"""Gives each replica that calls other apps a number, and takes it back when the ingress knows it no more."""

from __future__ import annotations

from collections.abc import Container, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import MappingProxyType

from flyted.contract.names import Replica, replica_of
from flyted.host import addresses
from flyted.plan.calls import address, free_number, suits, with_units
from flyted.plan.facts import Facts
from flyted.plan.units import UnitPair


class Callers:
    """The numbers of replicas. ``numbers`` is replaced, never changed: a pass may hold on to it."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self.numbers: Mapping[Replica, int] = MappingProxyType({})

    def read(self) -> None:
        """Take over what an earlier daemon gave."""
        kept = addresses.read(self._folder).items()
        found = {replica_of(f"flyted-app-{server}.service"): number for server, number in kept}
        self.numbers = MappingProxyType({replica: number for replica, number in found.items() if replica is not None})

    def give(self, replica: Replica, pair: UnitPair) -> None:
        """Give a replica a number, unless it has a suitable one, and write its files.

        Raises :class:`HostFailure` if no number is left, or when the disk refuses.
        """
        number = self.numbers.get(replica, 0)
        if not number or not suits(number, egress=pair.egress):
            number = free_number(frozenset(self.numbers.values()), egress=pair.egress)
        addresses.write(self._folder, replica.server, number, pair.hosts)
        self.numbers = MappingProxyType({**self.numbers, replica: number})

    def give_none(self, replica: Replica) -> None:
        """Remove the files that a former replica of this name has left: this one calls no other app.

        Its number stays taken until :meth:`settle`.
        """
        if replica in self.numbers:
            addresses.remove(self._folder, replica.server)

    def settle(
        self, known: Container[str], now: Mapping[Replica, int], before: Mapping[Replica, int],
        needed: AbstractSet[Replica], facts: Facts,
    ) -> None:  # fmt: skip
        """Take back the numbers of replicas whose addresses the ingress knows no more: another may have them then.

        ``known``: the addresses that it knows. ``now`` and ``before``: ``Execute.documents``, at the look of the pass
        that told the ingress: a replica whose units have been made since keeps its number, as do those ``needed`` and
        those that had units at that look. An ingress that starts may have read older tables: then all keep theirs.
        """
        if facts.ingress == "activating":
            return
        needed = needed | with_units(self.numbers, facts)
        gone = {
            replica for replica, number in self.numbers.items()
            if address(number) not in known and replica not in needed and now.get(replica) == before.get(replica)
        }  # fmt: skip
        for replica in gone:
            addresses.remove(self._folder, replica.server)
        if gone:
            left = {replica: number for replica, number in self.numbers.items() if replica not in gone}
            self.numbers = MappingProxyType(left)
