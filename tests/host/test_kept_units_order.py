"""Whatever happens to units, and whenever systemd's signals are read: what is kept is what systemd would say."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.contract.errors import HostFailure
from flyted.contract.names import Replica
from flyted.host.kept_units import MOST_NAMED, KeptUnits
from flyted.plan.unit_index import UnitFact, UnitIndex

PATTERNS = ("flyted-app-*", "flyted-ingress.service")
NAMES = [name for number in (1, 2) for name in (Replica("a", number).socket, Replica("a", number).service)]
NAMES += ["flyted-ingress.service", "flyted-build-x.service"]
MANY = [Replica("many", number).socket for number in range(1, MOST_NAMED + 2)]
STATES = ("active", "activating", "deactivating", "inactive", "failed")
Event = tuple[str, str, str]
EVENTS = st.tuples(
    st.sampled_from(["set", "set", "set", "gone", "made", "again", "reload", "lost", "many", "down"]),
    st.sampled_from(NAMES), st.sampled_from(STATES),
)  # fmt: skip

PASSES = st.tuples(st.lists(EVENTS, max_size=4), st.lists(st.lists(EVENTS, max_size=2), max_size=5))
"""What happens before a look, and before each answer in it."""


class Systemd:
    """Units and the signals of their changes, in their order. ``later``: what happens before the next answers."""

    def __init__(self) -> None:
        self.units: dict[str, UnitFact] = {}
        self.signals: list[Callable[[], None]] = []
        self.later: list[list[Event]] = []
        self.down = False
        self.kept = KeptUnits(PATTERNS, self.list, self.sync)

    def happens(self, event: Event) -> None:
        """One thing happens, and is signalled as systemd does it."""
        what, name, active = event
        match what:
            case "set":
                self.set(name, active)
            case "gone":
                self.gone(name)
            case "made":
                self.make(name)
            case "again":
                self.gone(name)
                self.make(name)
            case "reload":
                self.signals.append(self.kept.forget)
                self.signals += [lambda name=name: self.kept.gone(name) for name in self.units]  # type: ignore[misc]
                self.signals.append(self.kept.forget)
            case "lost":  # with the connection
                self.signals = [self.kept.forget]
            case "many":
                for each in MANY:
                    self.set(each, active)
            case "down":
                self.down = True

    def set(self, name: str, active: str) -> None:
        """A unit comes to be by itself, or changes."""
        self.units[name] = UnitFact(name, "loaded", active, active)
        self.signals.append(lambda: self.kept.stated(name, active, active))

    def gone(self, name: str) -> None:
        """A unit is collected."""
        if self.units.pop(name, None) is not None:
            self.signals.append(lambda: self.kept.gone(name))

    def make(self, name: str) -> None:
        """flyted makes a unit, which is not started: no signal says so."""
        if name not in self.units:
            self.kept.changed(name)
            self.units[name] = UnitFact(name, "loaded", "inactive", "inactive")

    def answer(self) -> None:
        """What happens before systemd answers."""
        for event in self.later.pop(0) if self.later else []:
            if event[0] not in ("made", "again"):  # flyted waits for the answer
                self.happens(event)

    def list(self, patterns: Iterable[str]) -> list[UnitFact]:
        """As ListUnitsByPatterns."""
        every = list(patterns)
        self.answer()
        if self.down:
            self.down = False
            raise HostFailure("no answer")
        return [unit for name, unit in self.units.items() if any(fnmatch.fnmatchcase(name, each) for each in every)]

    def sync(self) -> None:
        """As Bus.sync."""
        self.answer()
        due, self.signals = self.signals, []
        for signal in due:
            signal()

    def look(self) -> UnitIndex:
        """The units; a question that fails is asked again."""
        for _ in range(50):
            try:
                return self.kept.look()
            except HostFailure:
                continue
        raise AssertionError


@settings(max_examples=2 * settings().max_examples, deadline=None)
@given(st.lists(PASSES, max_size=6))
def test_what_is_kept_is_what_systemd_would_say(passes: list[tuple[list[Event], list[list[Event]]]]) -> None:
    """Also where things happen while it is asked; and the index is like one that is made of that anew."""
    systemd = Systemd()
    for events, later in passes:
        for event in events:
            systemd.happens(event)
        systemd.later = later
        systemd.look()
    systemd.later = []
    kept = systemd.look()
    units = {name: unit for name, unit in systemd.units.items() if any(fnmatch.fnmatchcase(name, p) for p in PATTERNS)}
    new = UnitIndex(units.values())
    assert dict(kept) == units
    assert (kept.sleeping, kept.others, kept.by_app) == (new.sleeping, new.others, new.by_app)
