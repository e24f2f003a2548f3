"""Keeps what systemd said of units, and asks again only about those that have changed since.

systemd signals each change of a unit, and sends the signals that are due before it answers another call
(``manager_loop`` in its manager.c). So after the answer to any call, and once the signals that came before it are
handled, what is kept is what systemd would say.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence

from flyted.plan.facts import UnitFact

MOST_NAMED = 32
"""The most units that are asked for by name. systemd compares each pattern with each of its units."""
_TRIES = 3  # more changes may come while it is asked: the next look sees them

List = Callable[[Iterable[str]], list[UnitFact]]


class KeptUnits:
    """The loaded units whose name matches one of ``patterns``.

    ``ask`` lists units by patterns. ``sync`` returns when systemd has sent the signals of all that has happened, and
    they are handled: :meth:`changed` or :meth:`forget` was called for each.
    """

    def __init__(self, patterns: Sequence[str], ask: List, sync: Callable[[], None]) -> None:
        self._patterns, self._ask, self._sync = patterns, ask, sync
        self._facts: dict[str, UnitFact] | None = None
        self._changed: set[str] = set()

    def changed(self, *names: str) -> None:
        """Ask for these units at the next look: they have changed, have come or are gone."""
        self._changed.update(n for n in names if any(fnmatch.fnmatchcase(n, pattern) for pattern in self._patterns))

    def forget(self) -> None:
        """Ask for all units at the next look: changes may have been missed."""
        self._facts = None

    def look(self) -> dict[str, UnitFact]:
        """Return the units by name, as systemd has them now. Raises :class:`HostFailure`."""
        self._sync()
        facts = self._facts
        for _ in range(_TRIES):
            if self._facts is not None and not self._changed:
                break
            facts = self._renewed()
            self._sync()
        return dict(facts or {})

    def _renewed(self) -> dict[str, UnitFact]:
        names, self._changed = self._changed, set()
        try:
            if self._facts is None or len(names) > MOST_NAMED:
                self._facts = {fact.name: fact for fact in self._ask(self._patterns)}
            else:
                found = {fact.name: fact for fact in self._ask(sorted(names))} if names else {}
                self._facts = {name: fact for name, fact in self._facts.items() if name not in names} | found
        except BaseException:
            self._changed |= names
            raise
        return self._facts
