"""Caches the state of units from systemd's signals, and queries only units whose state they do not contain.

systemd signals each change of a unit, with its new state, and sends the signals that are due before it answers another
call (``manager_loop`` in its manager.c). So after the answer to any call, and once the signals that came before it are
handled, what is kept is what systemd would say. It has to be asked about units that have just come: no signal says all
of those.

So a pass costs one call, which reads nothing; only new units are listed. HAProxy is sent only the difference from
what it was sent last, and asked for the counters of running apps only (``host/ingress.py``). Anything that casts
doubt on the cache (a lost connection, a reload of systemd, a new HAProxy process, a refused command) makes flyted
read everything again. Without the cache, 1,000 sleeping apps would cost 50 ms of CPU time in each pass.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Sequence

from flyted.plan.unit_index import UnitFact, UnitIndex

MOST_NAMED = 32
"""The most units that are asked for by name. systemd compares each pattern with each of its units."""
_TRIES = 3  # more changes may come while it is asked: the next look sees them

List = Callable[[Iterable[str]], list[UnitFact]]


class KeptUnits:
    """The loaded units whose name matches one of ``patterns``.

    ``ask`` lists units by patterns. ``sync`` returns when systemd has sent the signals of all that has happened, and
    they are handled: :meth:`changed`, :meth:`stated`, :meth:`gone` or :meth:`forget` was called for each.
    """

    def __init__(self, patterns: Sequence[str], ask: List, sync: Callable[[], None]) -> None:
        self._patterns, self._ask, self._sync = patterns, ask, sync
        self._index: UnitIndex | None = None
        self._changed: set[str] = set()
        self._said: dict[str, UnitFact | None] = {}  # the new state of known units; None: it is gone

    def changed(self, *names: str) -> None:
        """Ask for these units at the next look: they have changed, have come or are gone."""
        self._changed.update(n for n in names if any(fnmatch.fnmatchcase(n, pattern) for pattern in self._patterns))

    def stated(self, name: str, active: str, sub: str) -> None:
        """Take over a unit's new state. A unit that is not known yet is asked for at the next look."""
        known = self._said[name] if name in self._said else self._index and self._index.get(name)
        if known:
            self._said[name] = dataclasses.replace(known, active=active, sub=sub)
        else:
            self.changed(name)

    def gone(self, name: str) -> None:
        """Forget a unit that systemd does not know any more."""
        if name in self._said or (self._index is not None and name in self._index):
            self._said[name] = None

    def forget(self) -> None:
        """Ask for all units at the next look: changes may have been missed."""
        self._index = None

    def look(self) -> UnitIndex:
        """Return the units, as systemd has them now. Raises :class:`HostFailure`."""
        self._sync()
        index = self._index
        for _ in range(_TRIES):
            if self._index is not None and not self._changed and not self._said:
                break
            index = self._renewed()
            self._sync()
        return index if index is not None else UnitIndex()

    def _renewed(self) -> UnitIndex:
        names, self._changed = self._changed, set()
        said, self._said = self._said, {}
        try:
            if self._index is None or len(names) > MOST_NAMED:
                self._index = UnitIndex(self._ask(self._patterns))
            else:
                found = self._ask(sorted(names)) if names else []
                told = (fact for name, fact in said.items() if fact is not None and name not in names)
                self._index = self._index.replaced(names | said.keys(), (*told, *found))
        except BaseException:
            self._changed |= names
            self._said = said | self._said
            raise
        return self._index
