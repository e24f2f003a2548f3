"""What is kept of units between looks: systemd is asked only about those that have changed."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

import pytest

from flyted.contract.errors import HostFailure
from flyted.host.kept_units import MOST_NAMED, KeptUnits
from flyted.plan.unit_index import UnitFact

PATTERNS = ("flyted-app-*", "flyted-ingress.service")


class Systemd:
    """Units, the questions about them, and the changes that are told at the next answer."""

    def __init__(self) -> None:
        self.units: dict[str, UnitFact] = {}
        self.asked: list[list[str]] = []
        self.due: list[str] = []
        self.lost = self.down = False
        self.kept = KeptUnits(PATTERNS, self.list, self.sync)

    def set(self, name: str, active: str) -> None:
        """A unit comes to be, or changes."""
        self.units[name] = UnitFact(name, "loaded", active, "")
        self.due.append(name)

    def list(self, patterns: Iterable[str]) -> list[UnitFact]:
        """As ListUnitsByPatterns."""
        if self.down:
            raise HostFailure("there is no connection to systemd at the moment")
        self.asked.append(list(patterns))
        return [u for n, u in self.units.items() if any(fnmatch.fnmatchcase(n, p) for p in self.asked[-1])]

    def sync(self) -> None:
        """Tells what has changed."""
        self.kept.changed(*self.due)
        self.due = []
        if self.lost:
            self.lost = False
            self.kept.forget()


@pytest.fixture
def systemd() -> Systemd:
    """Three units, one of them none of those that are kept, which were all seen."""
    found = Systemd()
    for name in ("flyted-app-a.socket", "flyted-app-b.socket", "flyted-build-x.service"):
        found.set(name, "active")
    assert sorted(found.kept.look()) == ["flyted-app-a.socket", "flyted-app-b.socket"]
    found.asked.clear()
    return found


def test_what_has_not_changed_is_not_asked_for(systemd: Systemd) -> None:
    """Nothing at all is, while nothing changes."""
    before = systemd.kept.look()
    assert systemd.asked == []
    systemd.set("flyted-app-b.socket", "failed")
    assert systemd.kept.look()["flyted-app-b.socket"].active == "failed"
    assert systemd.asked == [["flyted-app-b.socket"]]
    assert before["flyted-app-b.socket"].active == "active", "what was returned earlier stays as it was"


def test_units_come_and_go(systemd: Systemd) -> None:
    """One that systemd does not list any more is gone; others that are not kept are none of ours."""
    systemd.set("flyted-app-c.service", "activating")
    systemd.set("flyted-build-x.service", "failed")
    del systemd.units["flyted-app-a.socket"]
    systemd.due.append("flyted-app-a.socket")
    assert sorted(systemd.kept.look()) == ["flyted-app-b.socket", "flyted-app-c.service"]
    assert systemd.asked == [["flyted-app-a.socket", "flyted-app-c.service"]]


def test_after_changes_were_missed_all_are_asked_for(systemd: Systemd) -> None:
    """Once; so are they where very many have changed."""
    del systemd.units["flyted-app-a.socket"]
    systemd.kept.forget()
    assert list(systemd.kept.look()) == ["flyted-app-b.socket"]
    for number in range(MOST_NAMED + 1):
        systemd.set(f"flyted-app-{number}.socket", "active")
    assert len(systemd.kept.look()) == MOST_NAMED + 2
    systemd.kept.look()
    assert systemd.asked == [list(PATTERNS)] * 2


def test_a_change_that_comes_during_the_question_is_asked_for_too(systemd: Systemd) -> None:
    """And where changes never end, the look ends all the same."""
    kept, answer = systemd.kept, systemd.list

    def restless(patterns: Iterable[str]) -> list[UnitFact]:
        found = answer(patterns)
        systemd.set("flyted-app-b.socket", f"{len(systemd.asked)}")
        return found

    kept._ask = restless
    systemd.set("flyted-app-a.socket", "failed")
    assert kept.look()["flyted-app-b.socket"].active == "2"
    kept._ask = answer
    assert kept.look()["flyted-app-b.socket"].active == "3"


def test_a_lost_connection_makes_no_unit_disappear(systemd: Systemd) -> None:
    """It is an error, or what systemd said last; never an empty machine, on which all would be made anew."""
    systemd.kept.forget()
    systemd.down = True
    with pytest.raises(HostFailure):
        systemd.kept.look()
    systemd.down = False
    answer = systemd.list

    def then_lost(patterns: Iterable[str]) -> list[UnitFact]:
        systemd.lost = True
        return answer(patterns)

    systemd.kept._ask = then_lost
    assert len(systemd.kept.look()) == 2


def test_a_question_that_failed_is_asked_again(systemd: Systemd) -> None:
    """The change that it was about is not forgotten."""
    systemd.set("flyted-app-a.socket", "failed")
    systemd.down = True
    with pytest.raises(HostFailure):
        systemd.kept.look()
    systemd.down = False
    assert systemd.kept.look()["flyted-app-a.socket"].active == "failed"


def test_a_state_that_systemd_says_itself_is_not_asked_for(systemd: Systemd) -> None:
    """Nor is a unit that it says is gone; a unit that has just come is, since its load state is not said."""
    systemd.kept.stated("flyted-app-b.socket", "deactivating", "stop-pre")
    systemd.kept.gone("flyted-app-a.socket")
    systemd.kept.gone("session-1.scope")
    seen = systemd.kept.look()
    assert dict(seen) == {"flyted-app-b.socket": UnitFact("flyted-app-b.socket", "loaded", "deactivating", "stop-pre")}
    assert systemd.asked == []
    systemd.units["flyted-app-c.socket"] = UnitFact("flyted-app-c.socket", "loaded", "active", "listening")
    systemd.kept.stated("flyted-app-c.socket", "active", "listening")
    systemd.kept.stated("flyted-build-x.service", "active", "running")
    assert systemd.kept.look()["flyted-app-c.socket"].sub == "listening"
    assert systemd.asked == [["flyted-app-c.socket"]]


def test_a_unit_that_is_gone_and_comes_again_is_asked_for(systemd: Systemd) -> None:
    """systemd makes it anew under the same name."""
    systemd.kept.gone("flyted-app-b.socket")
    systemd.kept.stated("flyted-app-b.socket", "active", "listening")
    assert systemd.kept.look()["flyted-app-b.socket"].active == "active"
    assert systemd.asked == [["flyted-app-b.socket"]]


def test_a_state_that_is_said_before_a_failed_question_is_kept(systemd: Systemd) -> None:
    """And one that comes after it counts."""
    systemd.set("flyted-app-a.socket", "failed")
    systemd.kept.stated("flyted-app-b.socket", "deactivating", "")
    systemd.down = True
    with pytest.raises(HostFailure):
        systemd.kept.look()
    systemd.down = False
    assert systemd.kept.look()["flyted-app-b.socket"].active == "deactivating"
