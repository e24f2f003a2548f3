"""HAProxy's answers: read, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.errors import HostFailure
from flyted.plan.idle import Traffic
from flyted.plan.ingress.answers import (
    parse_counted,
    parse_live,
    parse_show_info,
    parse_show_map,
    parse_show_stat,
    refusal,
    still_draining,
)
from flyted.plan.ingress.state import TABLES, Server, Unavailable

STAT = """# pxname,svname,qcur,qmax,scur,smax,slim,stot,req_tot,status,lastsess,ttime_max,sid,
apps,a-r1-0,1,2,3,4,1024,17,9,no check,5,25001,1,
apps,b-r1-0,0,0,0,0,7,0,0,MAINT,-1,0,3,

"""
INFO = "Name: HAProxy\nPid: 42\nUptime_sec: 7\nStart_time_sec: 1795506265\ndescription: flyted-0011\n"


def test_counters_are_read_by_column_name():
    """HAProxy adds columns from version to version; each question of a line is answered under a header of its own."""
    header, a, b = STAT.strip().splitlines()
    for text in (f"{INFO}\n{STAT}", f"{INFO}\n{header}\n{a}\n\n{header}\n{b}\n\n{header}\n\n"):
        counted = parse_counted(text)
        assert counted.traffic == {
            "a-r1-0": Traffic(3, 1, 17, 9, 5.0, 25.001, "42@1795506265", 7.0),
            "b-r1-0": Traffic(0, 0, 0, 0, None, 0.0, "42@1795506265", 7.0),
        }
        assert counted.ids == {"a-r1-0": ("apps 4 1",), "b-r1-0": ("apps 4 3",)}
        assert (counted.process, counted.structure) == ("42@1795506265", "flyted-0011")
    assert parse_counted(INFO).traffic == {}


def test_servers_of_pools_are_told_from_others():
    """They are asked for together; the gateway is no app's."""
    rows = "gateway,gateway,0,0,0,0,,5,5,no check,1,1,1,\npool-7,a-r1-0,0,0,2,4,1024,17,9,no check,5,25001,1,\n"
    rows += "pool-7,a-r1-1,0,0,0,0,1024,0,0,MAINT,-1,0,2,\npool-x,b,0,0,0,0,1024,0,0,MAINT,-1,0,2,\n"
    stat = STAT.partition("\n")[0] + f"\n{rows}"
    assert parse_counted(f"{INFO}\n{stat}").ids == {"a-r1-0": ("pool-7 4 -1",), "a-r1-1": ("pool-7 4 -1",)}
    found = parse_live(stat, INFO, {**dict.fromkeys(TABLES, ""), "sticky.map": "0x1 pool-7 yes\n"})
    assert found.state.servers == {
        "a-r1-0": Server("a-r1-0", "", 1024, pool="pool-7"),
        "a-r1-1": Server("a-r1-1", "", 1024, pool="pool-7", rests=True),
    }
    assert found.resting == {"a-r1-1"}
    assert found.state.sticky == {"pool-7": "yes"}


def test_a_twin_is_counted_with_its_server():
    """Requests over kept connections are the app's as well; it is asked for both."""
    rows = "kept,a-r1-0,1,0,2,4,512,100,90,no check,2,30000,4,\nkept,b-r1-0,0,0,0,0,512,0,0,MAINT,-1,0,2,\n"
    rows += "pool-7,p-r1-0,0,0,0,0,1024,3,3,no check,1,5,2,\n"
    counted = parse_counted(f"{INFO}\n{STAT}{rows}")
    assert counted.traffic["a-r1-0"] == Traffic(5, 2, 117, 99, 2.0, 30.0, "42@1795506265", 7.0)
    assert counted.ids["a-r1-0"] == ("apps 4 1", "kept 4 4")
    assert counted.ids["p-r1-0"] == ("pool-7 4 -1",)
    found = parse_live(STAT + rows, INFO, dict.fromkeys(TABLES, ""))
    assert found.twins == {"kept/a-r1-0": True, "kept/b-r1-0": False}
    assert found.traffic == counted.traffic
    assert set(found.state.servers) == {"a-r1-0", "b-r1-0", "p-r1-0"}
    assert found.state.servers["p-r1-0"].pool == "pool-7"


@pytest.mark.parametrize("entry", ["a-r1-0 apps", "a-r1-0 gateway", "A kept", "a;b kept"])
def test_an_entry_of_the_kept_that_is_not_ours_is_an_error(entry: str) -> None:
    """It is not flyted's: nothing is told from it."""
    with pytest.raises(HostFailure):
        parse_live(STAT, INFO, {**dict.fromkeys(TABLES, ""), "kept.map": f"0x1 {entry}\n"})


def test_what_haproxy_has_is_read_back():
    """Maps, servers, which of them rest, and which file it was started with."""
    hosts = "0x55dc0ab6ff20 a.apps.localhost a-r1-0\n\n"
    maps = {
        "hosts.map": hosts, "timeouts.map": "0x1 a-r1-0 5000\n\n",
        "unavailable.map": "0x1 c.b 30 it's; \\ stopped\n\n", "guarded.map": "0x1 b.c b\n",
        "limits.map": "0x1 b.c 20 -\n",
        "domains.map": "0x1 apps.example.org apps.localhost\n", "names.map": "0x1 b.example.org b.c\n",
        "challenges.map": f"0x1 b.example.org {'p' * 43}\n",
        "authorities.map": "0x1 flyted.box.lan box.lan\n", "redirects.map": "0x1 old.example.org apps.example.org\n",
        "restricted.map": "0x1 a.apps.localhost a\n", "open-paths.map": "0x1 a.apps.localhost/v1/ open\n",
        "sticky.map": "", "kept.map": "0x1 a-r1-0 kept\n",
        "callers.map": "0x1 198.18.4.0 shop/prod/b\n", "calls.map": "0x1 198.18.4.0/llm a.apps.localhost\n",
        "watched.map": "0x1 pool-7 3\n0x2 pool-8/rate 21\n", "awake.map": "0x1 a-r1-0 yes\n",
        "cold.map": "0x1 b-r1-0 /run/b.sock\n", "steps.map": "0x1 b.c It is starting.\n",
    }  # fmt: skip
    found = parse_live(STAT, INFO, maps)
    assert found.state.hosts == {"a.apps.localhost": "a-r1-0"}
    assert found.state.servers == {"a-r1-0": Server("a-r1-0", "", 1024), "b-r1-0": Server("b-r1-0", "", 7)}
    assert found.state.timeouts_ms == {"a-r1-0": 5000}
    assert found.state.unavailable == {"c.b": Unavailable("it's; \\ stopped", 30)}
    assert (found.state.guarded, found.state.restricted) == ({"b.c": "b"}, {"a.apps.localhost": "a"})
    assert found.state.limits == {"b.c": "20 -"}
    assert found.state.domains == {"apps.example.org": "apps.localhost"}
    assert found.state.names == {"b.example.org": "b.c"}
    assert found.state.challenges == {"b.example.org": "p" * 43}
    assert found.state.authorities == {"flyted.box.lan": "box.lan"}
    assert found.state.open_paths == {"a.apps.localhost/v1/": "open"}
    assert found.state.callers == {"198.18.4.0": "shop/prod/b"}
    assert found.state.calls == {"198.18.4.0/llm": "a.apps.localhost"}
    assert found.state.watched == {"pool-7": 3, "pool-8/rate": 21}
    assert found.state.awake == {"a-r1-0": "yes"}
    assert (found.state.cold, found.state.steps) == ({"b-r1-0": "/run/b.sock"}, {"b.c": "It is starting."})
    assert found.kept == {"a-r1-0": "kept"}
    assert found.resting == {"b-r1-0"}
    assert found.structure == "flyted-0011"


@pytest.mark.parametrize(
    ("stat", "hosts"),
    [
        ("Unknown command", ""),
        ("", ""),
        (STAT, "Unknown map identifier."),
        (STAT, "0x1 EVIL a\n"),
        (STAT, "0x1 a b c\n"),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(stat, hosts):
    """Never a guess, never a traceback."""
    with pytest.raises(HostFailure):
        parse_live(stat, INFO, {**dict.fromkeys(TABLES, ""), "hosts.map": hosts})


@given(st.text())
def test_any_text_is_understood_or_refused(text):
    """Whatever comes over the admin socket: a value or HostFailure."""
    for parse in (parse_show_map, parse_show_stat, parse_show_info, parse_counted):
        try:
            parse(text)
        except HostFailure:
            continue


@pytest.mark.parametrize(
    ("command", "answer", "said"),
    [
        ("add server apps/a unix@/a", "New server registered.\n\n", ""),
        ("add server apps/a unix@/a", "Already exists a server with the same name in backend.\n\n", "Already"),
        ("del server apps/a", "Server deleted.\n", ""),
        ("del server apps/a", "No such server.\n", "No such server."),
        ("enable server apps/a", "\n", ""),
        ("set map F k v", "entry not found.\n\n", "entry not found."),
        ("add map F k v", "\n", ""),
        ("add map F k v", "Unknown map identifier. Please use #<id> or <file>.\n", "Unknown map"),
        ("enable server apps/a", "Unknown command: 'enable'\n help: this help\n", "Unknown command"),
        ("add server apps/a unix@/a", "\n", "no answer"),
    ],
)
def test_a_refusal_is_told_from_success(command, answer, said):
    """Silence is consent, except where HAProxy says that it did it."""
    assert refusal(command, answer).startswith(said)
    assert bool(refusal(command, answer)) == bool(said)


def test_a_server_in_use_is_not_an_error():
    """`del server` of one that still answers somebody is repeated later."""
    words = "Server still has connections attached to it, cannot remove it.\n"
    assert still_draining("del server apps/a", words)
    assert not still_draining("enable server apps/a", words)
    assert not still_draining("del server apps/a", "No such server.\n")
