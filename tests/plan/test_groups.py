"""Groups of apps: a pass that takes over what is known of them plans the same as one that knows nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.contract.names import Replica
from flyted.plan.facts import Failure, StoredApp
from flyted.plan.groups import SIZE, Groups
from flyted.plan.reconcile import reconcile
from flyted.plan.scaling import Scale
from flyted.plan.unit_index import UnitFact
from tests.values import DOMAIN, app, facts, pair

NUMBERS = st.integers(0, SIZE + 3)
WHAT = (
    "stop", "delete", "wake", "guard", "keep up", "fall", "orphan", "deploy", "outdated", "work", "fail", "leave",
    "serve", "never", "sleep", "half", "engine", "slower", "moved", "several", "another", "another sleeps",
    "needs more", "call", "number",
)  # fmt: skip
CHANGES = st.one_of(
    st.tuples(st.sampled_from(WHAT), NUMBERS), st.tuples(st.just("guard"), st.integers(SIZE + 4, SIZE + 9))
)


class Story:
    """Apps and their units, as changes leave them."""

    def __init__(self) -> None:
        self.apps: dict[str, StoredApp] = {}
        self.units: dict[str, UnitFact] = {}
        self.sets: dict[str, frozenset[Replica]] = {}
        self.more: dict[str, Any] = {}
        self.domain = DOMAIN
        for number in range(SIZE + 4):
            self.add(f"a{number}")

    def add(self, name: str, **changes: Any) -> None:
        """An app that sleeps."""
        self.apps[name] = app(name, **changes)
        self.units |= pair(Replica(name, 1))

    def change(self, what: str, number: int) -> None:
        """One thing happens to one app."""
        name = f"a{number}"
        self._wants(what, name, number)
        self._runs(what, Replica(name, 1), number)
        self._knows(what, Replica(name, 1), number)

    def _wants(self, what: str, name: str, number: int) -> None:
        match what:
            case "stop" if name in self.apps:
                self.apps[name] = app(name, wanted="stopped")
            case "delete":
                self.apps.pop(name, None)
            case "guard":
                self.add(name, requires_auth=True)
            case "keep up":
                self.add(name, min_replicas=1)
            case "serve" if name in self.apps:  # the new revision sleeps, or has no units yet
                self.apps[name] = app(name, serving=2, revisions=2, open_paths=("/health",))
                self.units |= pair(Replica(name, 2)) if number % 2 else {}
            case "several":
                self.add(name, max_replicas=3)
            case "never":
                self.apps[name] = app(name, serving=None)
            case "engine":
                self.add(name, engine_sleep=1, request_timeout_s=7.0)
            case "call":
                self.add(name, calls=("a1", f"b{number}"))

    def _runs(self, what: str, replica: Replica, number: int) -> None:
        match what:
            case "fall":
                self.units.pop(replica.socket, None)
            case "wake" | "orphan":
                self.units |= pair(replica, "active") if what == "wake" else pair(Replica(replica.app_id, 7))
            case "sleep":
                self.units |= pair(replica)
            case "another" | "another sleeps":
                self.units |= pair(Replica(replica.app_id, 1, 1), "active" if what == "another" else "inactive")
            case "half":
                self.units |= pair(replica, "failed" if number % 2 else "deactivating")

    def _knows(self, what: str, replica: Replica, number: int) -> None:
        match what:
            case "deploy" | "outdated" | "work":
                field, at = {"deploy": ("candidates", 2), "outdated": ("outdated", 1), "work": ("busy", 1)}[what]
                self.sets[field] = frozenset({Replica(replica.app_id, at)})
            case "needs more":
                scale = Scale(1, frozenset({number % 2 + 1}), seen_at=99.5)
                self.more["scales"] = {**self.more.get("scales", {}), replica.app_id: scale}
            case "number":
                numbers = {Replica(f"a{each}", 1): 1024 + each + number for each in range(0, SIZE, 2)}
                self.more["numbers"] = numbers
            case "slower":
                self.more["start_s"] = 300.0 + number
            case "moved":
                self.domain = f"apps{number % 2}.example"
            case "fail":
                failure = Failure(1, 100.0 + (number % 3 - 1) * 5, "boom")
                self.more["failures"] = {**self.more.get("failures", {}), replica: failure}
            case "leave":
                self.more["leaving"] = {**self.more.get("leaving", {}), Replica(replica.app_id, 7): 90.0}


@settings(deadline=None)
@given(st.lists(st.lists(CHANGES, max_size=3), max_size=6))
def test_a_plan_is_the_same_with_and_without_what_is_known(passes: list[list[tuple[str, int]]]) -> None:
    """Whatever happens between passes: actions, the ingress's state, what leaves and the next look."""
    story, groups = Story(), Groups()
    for changes in passes:
        story.sets, story.more = {}, {}
        for what, number in changes:
            story.change(what, number)
        seen = facts(*story.apps.values(), units=dict(story.units), **story.sets, **story.more)
        known = groups.of(seen.apps)
        assert reconcile(seen, {}, story.domain, 100.0, known) == reconcile(seen, {}, story.domain, 100.0)


def test_a_group_without_a_change_is_the_same_object() -> None:
    """So what is known of it is kept, and the other groups lose theirs."""
    apps = tuple(app(f"a{number}") for number in range(3 * SIZE))
    groups = Groups()
    first = groups.of(apps)
    second = groups.of((*apps[:SIZE], app("b"), *apps[SIZE + 1 :]))
    assert [a is b for a, b in zip(first, second, strict=True)] == [True, False, True]
