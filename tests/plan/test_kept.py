"""Kept connections: who gets them, and the commands that begin and end them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.contract.errors import InvalidInput
from flyted.plan.idle import Traffic
from flyted.plan.ingress import kept
from flyted.plan.ingress.changes import changes, draining
from flyted.plan.ingress.config import render_config, structure
from flyted.plan.ingress.maps import render_maps
from flyted.plan.ingress.pools import place
from flyted.plan.ingress.state import MAX_MAXCONN, IngressState, Listen, Live, Server
from flyted.plan.pairs import SERVER_MAXCONN
from tests.plan.ingresses import live, state
from tests.plan.test_ingress_changes import Model

MAP = "/run/flyted/ingress/kept.map"
TWIN = "unix@/run/flyted/apps/a-r1-0.sock maxconn 512 weight 0 pool-purge-delay 100ms pool-max-conn 256"


def keeping(wanted: IngressState, *names: str) -> IngressState:
    """The state in which connections to these servers are kept."""
    return replace(wanted, servers={n: replace(s, kept=n in names) for n, s in wanted.servers.items()})


ALONE = state({"a": "a-r1-0"})
NAMES = ["a-r1-0", "a-r2-0", "b-r1-0", "c-r1-0"]
letters = st.dictionaries(st.sampled_from("abc"), st.sampled_from(NAMES))


def test_an_app_that_wakes_gets_a_twin_and_then_its_place_in_the_map() -> None:
    """The twin takes requests before the map leads to it."""
    assert changes(live(ALONE), keeping(ALONE, "a-r1-0")) == [
        f"add server kept/a-r1-0 {TWIN}",
        "enable server kept/a-r1-0",
        f"add map {MAP} a-r1-0 kept",
    ]


def test_an_app_that_is_to_sleep_leaves_the_map_and_keeps_its_twin() -> None:
    """Its counters are the app's. When it wakes again, the twin is enabled if it was put into maintenance."""
    awake = keeping(ALONE, "a-r1-0")
    assert changes(live(awake), ALONE) == [f"del map {MAP} a-r1-0"]
    for enabled in (True, False):
        asleep = replace(live(ALONE), twins={"kept/a-r1-0": enabled})
        enable = [] if enabled else ["enable server kept/a-r1-0"]
        assert changes(asleep, awake) == [*enable, f"add map {MAP} a-r1-0 kept"]
        assert changes(asleep, ALONE) == []


def test_out_of_the_map_comes_before_everything_else() -> None:
    """A revision takes over: no request meets a kept connection to the old one from the first command on."""
    new = keeping(state({"a": "a-r2-0"}), "a-r2-0")
    commands = changes(live(keeping(ALONE, "a-r1-0")), new)
    assert commands[0] == f"del map {MAP} a-r1-0"
    assert commands[-5:] == [
        "set map /run/flyted/ingress/hosts.map a.apps.localhost a-r2-0",
        "set server kept/a-r1-0 state maint",
        "del server kept/a-r1-0",
        "set server apps/a-r1-0 state maint",
        "del server apps/a-r1-0",
    ]
    busy = changes(live(keeping(ALONE, "a-r1-0"), busy=("a-r1-0",)), new)
    assert not any("a-r1-0" in each for each in busy[1:] if "server" in each), "it answers somebody"


@settings(max_examples=4 * settings().max_examples, deadline=None)
@given(letters, letters, st.data(), st.sets(st.sampled_from(NAMES)))
def test_the_map_leads_to_twins_that_take_requests(before, after, data, busy) -> None:
    """At each moment between two commands; at the end there are no twins without a server."""
    have, wanted = state(before), state(after)
    drawn = (data.draw(st.sets(st.sampled_from(sorted(each.servers) or [""]))) for each in (have, wanted))
    have, wanted = (keeping(each, *names) for each, names in zip((have, wanted), drawn, strict=True))
    start = live(have, tuple(busy))
    model = Model(start)
    for command in changes(start, wanted):
        model.do(command)
        for name in model.maps["kept.map"]:
            assert model.servers[f"kept/{name}"], f"{name} after {command!r}"
    assert model.maps["kept.map"] == kept.table(wanted.servers.values())
    left = {*wanted.servers, *draining(start, wanted)}
    assert {name for name in model.servers if name.startswith("kept/")} <= {kept.twin(name) for name in left}
    assert {place(each) for each in wanted.servers.values()} <= model.servers.keys()


def test_a_twin_without_its_server_goes() -> None:
    """HAProxy refused to delete it before, since a connection ended just then."""
    lost = replace(live(ALONE), twins={"kept/x-r1-0": False})
    assert changes(lost, ALONE) == ["set server kept/x-r1-0 state maint", "del server kept/x-r1-0"]


def test_a_restarted_haproxy_keeps_nothing() -> None:
    """The files say of no app that it is awake, and do not change when one wakes or sleeps."""
    awake = keeping(ALONE, "a-r1-0")
    assert render_maps(awake)["kept.map"] == ""
    assert render_maps(awake, ALONE) == {}
    assert render_config(awake, Listen()) == render_config(ALONE, Listen())


def test_the_backend_is_part_of_what_haproxy_is_restarted_for() -> None:
    """It is read at its start only."""
    config = render_config(IngressState(), Listen())
    assert config.index(structure(Listen())) < config.index("\nbackend kept from usual\n")


def test_the_connections_of_both_ways_fit_into_the_backlog() -> None:
    """With a full backlog a request would get 503 at once."""
    assert SERVER_MAXCONN + kept.MAXCONN <= MAX_MAXCONN


def test_counters_of_both_ways_are_one_apps() -> None:
    """The bound of plan/idle.py holds: no request ends later than the last start and the longest together."""
    one = Traffic(1, 2, 10, 9, 3.0, 0.5, "p", 100.0)
    assert one + Traffic(2, 0, 5, 5, None, 7.0, "p", 100.0) == Traffic(3, 2, 15, 14, 3.0, 7.0, "p", 100.0)
    assert (Traffic(0, 0, 0, 0, None, 0.0) + Traffic(0, 0, 0, 0, None, 0.0)).last_start_age_s is None


def test_what_is_to_stop_is_not_kept() -> None:
    """Servers that are not there, or are not kept, are no matter."""
    awake = keeping(ALONE, "a-r1-0")
    assert kept.without(awake, ["a-r1-0", "x-r1-0"]) == ALONE
    assert kept.without(ALONE, ["a-r1-0"]) is ALONE
    with pytest.raises(InvalidInput):
        kept.checked({"a-r1-0": "apps"})
    assert Live(ALONE).twins == {}
    assert Server("a", "/a").kept is False
