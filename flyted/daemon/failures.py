"""Remembers which pairs failed: a pair that was up, and whose socket is gone although flyted did not stop it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from flyted.contract.names import Replica
from flyted.plan.facts import Facts, Failure

_BACKOFF_S = (2.0, 10.0, 60.0, 300.0)  # after the first failure in a row, the second, …


class Failures:
    """What is remembered of failed pairs from one pass of the loop to the next. All times are of the loop's clock."""

    def __init__(self) -> None:
        self._failures: dict[Replica, Failure] = {}
        self._up: set[str] = set()  # services of pairs that were seen up

    def all(self) -> Mapping[Replica, Failure]:
        """Return a copy of all failures."""
        return dict(self._failures)

    def came_up(self, replica: Replica) -> None:
        """Record that a pair is up, before a pass has seen it."""
        self._up.add(replica.service)

    def see(self, facts: Facts, replicas: Mapping[str, Replica]) -> None:
        """Record which of these pairs are up: a plan has just found that they shall exist."""
        self._up |= {name for name, each in replicas.items() if _is_up(each, facts)}

    def add(self, replica: Replica, reason: str, now: float) -> None:
        """Record that a pair failed; each further failure in a row makes it wait longer.

        ``reason``: "" if it is not known yet. The end of the pair is no failure of its own then.
        """
        self._up.discard(replica.service)
        before = self._failures.get(replica)
        self._record(replica, before.count + 1 if before else 1, reason, now)

    def explain(self, replica: Replica, reason: str, now: float) -> None:
        """Add the reason for a failure that is on record, if it was not forgiven meanwhile; its pause begins now."""
        if (failure := self._failures.get(replica)) is not None:
            self._record(replica, failure.count, reason, now)

    def _record(self, replica: Replica, count: int, reason: str, now: float) -> None:
        self._failures[replica] = Failure(count, now + _BACKOFF_S[min(count, len(_BACKOFF_S)) - 1], reason)

    def forgive(self, replica: Replica) -> None:
        """Forget the failures of a pair: it runs, or its operator wants a new try now."""
        self._failures.pop(replica, None)

    def learn(
        self, facts: Facts, replicas: Sequence[Mapping[str, Replica]], busy: AbstractSet[Replica]
    ) -> list[Replica]:
        """Record which pairs are up; return those that were and are gone although flyted did not stop them.

        ``replicas``: those that shall exist, by the names of their services. ``busy``: the pairs on which work runs:
        what becomes of them is known at its end.
        """
        wanted = frozenset().union(*replicas)
        self._up &= wanted
        for replica in [each for each in self._failures if each.service not in wanted]:
            del self._failures[replica]
        own = {replica.service for replica in busy}
        self._up |= (facts.index.sleeping & wanted) - own
        return list(self._fallen(facts, replicas, own))

    def _fallen(
        self, facts: Facts, replicas: Sequence[Mapping[str, Replica]], own: AbstractSet[str]
    ) -> Iterator[Replica]:
        for some in replicas:
            for name in some.keys() - facts.index.sleeping - own:
                replica = some[name]
                service = facts.units.get(name)
                if _is_up(replica, facts):
                    self._up.add(name)
                    if service is not None and service.active == "active":
                        self.forgive(replica)
                elif name in self._up:
                    yield replica


def _is_up(replica: Replica, facts: Facts) -> bool:
    socket = facts.units.get(replica.socket)
    return socket is not None and socket.active == "active"
