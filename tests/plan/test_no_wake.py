"""Paths whose requests wake no app: which are valid, when an app is awake, and what keeps it so."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.errors import InvalidInput
from flyted.contract.names import Replica, freezer_of
from flyted.plan.freeze import FreezeRules
from flyted.plan.idle import Busy, Idle, Traffic, decide, look, start
from flyted.plan.ingress import no_wake
from flyted.plan.ingress.answers import parse_counted
from flyted.plan.ingress.changes import changes
from flyted.plan.ingress.clients import ClientRules
from flyted.plan.ingress.config import structure
from flyted.plan.ingress.state import Listen
from flyted.plan.reconcile import reconcile
from flyted.plan.unit_index import UnitFact
from tests.plan.ingresses import live, state
from tests.plan.test_ingress_answers import INFO, STAT
from tests.plan.test_ingress_changes import Model
from tests.values import DOMAIN, app, facts, pair, quiet

A = Replica("a", 1)
NOW = 1000.0
MAP = "/run/flyted/ingress/awake.map"


@pytest.mark.parametrize(
    "path",
    ["", "/", "/*", "//", "/**", "favicon.ico", "*.png", "/a*b*c", "/a b", "/a'", "/a%20b", "/a\n", "/a$x", "/a\\b",
     "/é", "/" + "x" * 129, "/*/"],
)  # fmt: skip
def test_what_is_no_path_or_every_path_is_refused(path: str) -> None:
    """Nothing of it may end a word of HAProxy's, and the page that visitors ask for has to wake an app."""
    with pytest.raises(InvalidInput):
        ClientRules(no_wake_paths=(path,))


def test_there_is_a_limit_to_their_number() -> None:
    """Each request is compared with all of them."""
    paths = tuple(f"/{number}" for number in range(no_wake.MOST))
    assert no_wake.checked(paths) == paths
    with pytest.raises(InvalidInput, match="at most 64 paths"):
        no_wake.checked((*paths, "/more"))


words = st.text("ab.-_~/", max_size=6)


@given(words, st.none() | words, words)
def test_a_star_stands_for_any_characters(before: str, after: str | None, between: str) -> None:
    """As the ingress's rule reads it; a dot is a dot."""
    path = f"/{before}" if after is None else f"/{before}*{after}"
    if not path.strip("/*"):
        return
    (rule,) = re.findall(r"acl no_wake_path path -m (?:str (.*)|reg '(.*)')\n", no_wake.frontend_rules((path,), "/f"))
    assert bool(rule[0]) == (after is None)
    asked = path.replace("*", between)
    assert asked == rule[0] or re.fullmatch(rule[1], asked)


def test_a_dot_is_a_dot() -> None:
    """Not any character, as in a regular expression."""
    (rule,) = re.findall("-m reg '(.*)'", no_wake.frontend_rules(("/icon*.png",), "/f"))
    assert re.fullmatch(rule, "/icon-1.x.png")
    assert not re.fullmatch(rule, "/icon-1xpng")


def test_other_paths_are_other_rules() -> None:
    """HAProxy reads them when it starts; with none of them, it has the maps nevertheless."""
    assert structure(Listen()) != structure(Listen(clients=ClientRules(no_wake_paths=("/health",))))
    text = no_wake.frontend_rules((), "/f")
    assert "/f/awake.map" in text
    assert "/f/uncounted.map" in text
    assert "503" not in text


def test_what_is_answered_for_a_sleeping_app_is_logged_only_with_all_else() -> None:
    """A monitor asks every minute."""
    assert "set-log-level silent" in no_wake.frontend_rules(("/health",), "/f")
    assert "set-log-level" not in no_wake.frontend_rules(("/health",), "/f", log=True)


def test_an_app_that_is_to_sleep_leaves_the_map_first_and_enters_it_last() -> None:
    """One command each."""
    asleep = state({"a": "a-r1-0"})
    awake = replace(asleep, awake={"a-r1-0": "yes"})
    assert changes(live(awake), asleep) == [f"del map {MAP} a-r1-0"]
    assert changes(live(asleep), awake) == [f"add map {MAP} a-r1-0 yes"]
    commands = changes(live(awake), replace(state({"a": "a-r2-0"}), awake={"a-r2-0": "yes"}))
    model = Model(live(awake))
    for command in commands:
        model.do(command)
        assert model.maps["awake.map"].keys() <= {name.partition("/")[2] for name in model.servers}, command


def test_counts_are_read_behind_the_counters() -> None:
    """An answer of theirs is counted with its server, and with no other."""
    counted = parse_counted(f"{INFO}\n{STAT}\n0x55dc0ab6ff20 a-r1-0 5\n0x55dc0ab6ff21 gone-r1-0 7\n\n")
    assert {n: t.uncounted for n, t in counted.traffic.items()} == {"a-r1-0": 5, "b-r1-0": 0}
    assert counted.traffic["a-r1-0"].counting == 12
    assert counted.ids.keys() == {"a-r1-0", "b-r1-0"}
    assert parse_counted(f"{INFO}\n{STAT}\nUnknown map identifier.\n").traffic["a-r1-0"].uncounted == 0


def count(started: int, uncounted: int, age_s: float) -> Traffic:
    """Counters with nothing in flight."""
    return Traffic(0, 0, started, started, age_s, 0.1, uncounted=uncounted)


def test_requests_that_do_not_count_keep_no_app_awake() -> None:
    """Only the time of the last request is known, whichever it was: so the first look may be one period late."""
    clock = look(start(0.0), count(5, 3, 10.0), 300.0)
    assert isinstance(decide(clock, 300.0, 300.0), Busy)
    clock = look(clock, count(10, 8, 2.0), 600.0)
    assert isinstance(decide(clock, 300.0, 600.0), Idle)


@given(st.integers(0, 3), st.integers(1, 3))
def test_one_that_counts_keeps_it_awake_among_any_that_do_not(others: int, new: int) -> None:
    """Whatever came between two looks."""
    clock = look(start(0.0), count(5, 3, 10.0), 300.0)
    clock = look(clock, count(5 + others + new, 3 + others, 2.0), 600.0)
    assert isinstance(decide(clock, 300.0, 600.0), Busy)


def awake(units: dict[str, UnitFact], *, max_replicas: int = 1, **more: Any) -> dict[str, str]:
    """Which servers and pools the planner calls awake."""
    scaled: dict[str, Any] = {"max_replicas": max_replicas, "concurrency": 1} if max_replicas > 1 else {}
    traffic = {A.server: quiet(1)}
    found = facts(app("a", **scaled), **{"units": units, "traffic": traffic, **more})
    return dict(reconcile(found, {}, DOMAIN, NOW).ingress.awake)


def test_an_app_is_awake_while_it_serves() -> None:
    """Not while it starts or stops, nor while somebody works on it."""
    assert awake(pair(A, "active")) == {"a-r1-0": "yes"}
    for service in ("inactive", "activating", "deactivating", "failed"):
        assert awake(pair(A, service)) == {}
    assert awake(pair(A, "active"), busy=frozenset({A})) == {}


def test_a_frozen_app_is_not_awake() -> None:
    """Nor one that is about to be."""
    for step in ("activating", "active", "deactivating"):
        freezer = UnitFact(freezer_of(A), "loaded", step, "")
        assert awake({**pair(A, "active"), freezer.name: freezer}, freeze=FreezeRules("auto")) == {}


def test_an_app_that_is_put_to_sleep_is_not_awake() -> None:
    """In the same pass: the ingress is told before the stop begins."""
    old = {A.server: quiet(1000)}
    assert awake(pair(A, "active"), traffic=old, counted=True) == {"a-r1-0": "yes"}, "it is found running just now"
    clocks = {A.server: start(0.0)}
    found = facts(app("a", scaledown_after_s=5.0), units=pair(A, "active"), traffic=old)
    assert dict(reconcile(found, clocks, DOMAIN, NOW).ingress.awake) == {}


def test_a_pool_is_awake_if_one_of_its_replicas_is() -> None:
    """The map has the pool's name, as the map of hosts has."""
    pooled = awake(pair(A, "active"), max_replicas=3)
    assert [name.partition("-")[0] for name in pooled] == ["pool"]
    assert awake(pair(A, "inactive"), max_replicas=3) == {}
