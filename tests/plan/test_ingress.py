"""The ingress as values: nothing wrong gets in, nothing is left out of its file and maps."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.errors import InvalidInput
from flyted.plan.ingress.changes import word
from flyted.plan.ingress.config import HaproxyPaths, render_config, structure
from flyted.plan.ingress.maps import render_maps
from flyted.plan.ingress.pools import POOLS
from flyted.plan.ingress.state import IngressState, Listen, Server, Unavailable, unavailable
from tests.plan.ingresses import state


@pytest.mark.parametrize("bad", ["", "A", "a b", "a\nb", "a;b", "-a", "a-", "a/b", "a\x00", "é", "a" * 81, "a_b"])
def test_server_names_are_checked(bad):
    """A name that could end a word on HAProxy's command line or in its file is refused."""
    with pytest.raises(InvalidInput):
        Server(bad, "/run/a.sock")


@pytest.mark.parametrize(
    "bad", ["run/a", "/a b", "/a\n    server evil", "/a;b", "/" + "a" * 107, "/a\x00", "@abstract"]
)
def test_socket_paths_are_checked(bad):
    """Absolute, plain characters, within what a Unix socket's address holds."""
    with pytest.raises(InvalidInput):
        Server("a", bad)


@pytest.mark.parametrize(
    "bad", ["", "A.b", "a b", "a\n", "a_b.c", "-a.b", "a..b", "a.", ".a", "*.a", "a" * 64 + ".b", "é"]
)
def test_host_names_are_checked(bad):
    """Lower-case DNS names only; in a map file a newline would be an entry of its own."""
    with pytest.raises(InvalidInput):
        IngressState(servers={"s": Server("s", "/s")}, hosts={bad: "s"})
    with pytest.raises(InvalidInput):
        IngressState(unavailable={bad: Unavailable("x")})


def test_a_host_is_checked_however_many_were_before():
    """Those that were checked are not looked at again; one that is not valid is refused each time."""
    for some in range(4):
        hosts = {f"{some}-{number}.b": "s" for number in range(9000)}
        assert IngressState(hosts=hosts) == IngressState(hosts=hosts)
        for _ in range(2):
            with pytest.raises(InvalidInput, match=r"host name 'a;b' is not valid"):
                IngressState(hosts={**hosts, "a;b": "s"})


def test_a_server_is_filed_under_its_name():
    """HAProxy would get commands for another one."""
    with pytest.raises(InvalidInput, match="server 'b' is filed under another name"):
        IngressState(servers={"a": Server("b", "/s")})


@pytest.mark.parametrize("limit", [0, -1, 86_400_001])
def test_time_limits_are_checked(limit):
    """From a millisecond to a day."""
    with pytest.raises(InvalidInput, match="server 's': a time limit must be 1 ms to one day"):
        IngressState(timeouts_ms={"a": 5, "s": limit})


@pytest.mark.parametrize("maxconn", [0, -1, 4096, 10**9])
def test_maxconn_stays_below_the_backlog(maxconn):
    """At 4096, the sockets' backlog, the next connect() would fail at once."""
    with pytest.raises(InvalidInput):
        Server("s", "/s", maxconn)


def test_a_host_must_lead_somewhere():
    """A host without its server would be a 503 for nobody's fault."""
    with pytest.raises(InvalidInput, match=r"host 'a[.]b' leads to server 's', which does not exist"):
        render_config(IngressState(hosts={"a.b": "s"}), Listen())
    with pytest.raises(InvalidInput, match="time limit"):
        render_config(IngressState(timeouts_ms={"s": 5}), Listen())


@given(st.text())
def test_any_text_becomes_a_reason_of_one_clean_line(text):
    """A log line of an app, whatever is in it, may be shown to its visitors."""
    made = unavailable(text)
    assert made.reason.isprintable() or not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", made.reason)
    assert 0 < len(made.reason) <= 500
    assert render_maps(IngressState(unavailable={"a.b": made}))["unavailable.map"].count("\n") == 1


@given(st.text(min_size=1).filter(lambda t: not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", t)))
def test_a_value_is_one_word_of_one_command(value):
    """After escaping no space, semicolon, hash or `<<` is left bare, and unescaping gives the value back."""
    escaped = word(value)
    assert re.fullmatch(r"(?:\\[^\n]|[^\\ ;#<\"'\n])+", escaped)
    assert re.sub(r"\\(.)", r"\1", escaped) == value


@pytest.mark.parametrize("bad", ["", "a\nb", "\x1b[0m", "a\x00", "a\u2028b"])
def test_control_characters_never_reach_a_command(bad):
    """A newline would be a second command."""
    with pytest.raises(InvalidInput):
        word(bad)


def test_the_file_repeats_everything_and_the_maps_too():
    """A restart serves the same: every server, host, limit and reason is in the files."""
    wanted = state({"a": "a-r1-0", "b": "b-r1-0"}, ("c",), {"a-r1-0": 5000}, "b", {"a": {"/v1"}}, {"b": 2.0})
    wanted = replace(
        wanted, domains={"apps.example.org": "apps.localhost"}, names={"b.example.org": "b.apps.localhost"},
        challenges={"b.example.org": "p" * 43},
        authorities={"flyted.box.lan": "box.lan"}, redirects={"old.example.org": "apps.example.org"},
        sticky={"pool-7": "yes"},
        callers={"198.18.4.0": "shop/prod/b"}, calls={"198.18.4.0/llm": "a.apps.localhost"},
        watched={"pool-7": 3, "pool-8/rate": 21}, awake={"a-r1-0": "yes"},
        cold={"b-r1-0": "/run/b.sock"}, steps={"b.apps.localhost": "It is starting."},
    )  # fmt: skip
    config, maps = render_config(wanted, Listen()), render_maps(wanted)
    for server in wanted.servers.values():
        assert f"\n    server {server.name} unix@{server.socket_path} maxconn 1024 weight 0\n" in config
    assert maps == {
        "hosts.map": "a.apps.localhost a-r1-0\nb.apps.localhost b-r1-0\n",
        "domains.map": "apps.example.org apps.localhost\n",
        "redirects.map": "old.example.org apps.example.org\n",
        "names.map": "b.example.org b.apps.localhost\n",
        "challenges.map": f"b.example.org {'p' * 43}\n",
        "authorities.map": "flyted.box.lan box.lan\n",
        "timeouts.map": "a-r1-0 5000\n",
        "unavailable.map": "c.apps.localhost 30 it is stopped\n",
        "limits.map": "b.apps.localhost 20 -\n",
        "guarded.map": "b.apps.localhost b\n",
        "restricted.map": "a.apps.localhost a\n",
        "open-paths.map": "a.apps.localhost/v1/ open\n",
        "sticky.map": "pool-7 yes\n",
        "callers.map": "198.18.4.0 shop/prod/b\n",
        "calls.map": "198.18.4.0/llm a.apps.localhost\n",
        "watched.map": "pool-7 3\npool-8/rate 21\n",
        "awake.map": "a-r1-0 yes\n",
        "cold.map": "b-r1-0 /run/b.sock\n",
        "steps.map": "b.apps.localhost It is starting.\n",
        "uncounted.map": "",
        "kept.map": "",
    }
    assert "@" not in re.sub(r"fd@\d|unix@|[_ ,]@ /", "", config), "no placeholder is left"


def test_servers_of_a_pool_are_in_its_backend() -> None:
    """With a weight, and disabled if they rest; all pools are there, also those without servers."""
    one, two = (Server(f"a-r1-{n}", f"/run/a{n}.sock", pool="pool-3", rests=n == 1) for n in range(2))
    wanted = IngressState(servers={one.name: one, two.name: two}, hosts={"a.b": "pool-3"}, timeouts_ms={"pool-3": 5})
    pools = dict(re.findall(r"\nbackend (pool-\d+) from pools\n((?:    .*\n)*)", render_config(wanted, Listen())))
    assert list(pools) == [f"pool-{number}" for number in range(POOLS)]
    assert re.findall(r"    server (.*)", pools["pool-3"]) == [
        "a-r1-0 unix@/run/a0.sock maxconn 1024 weight 1", "a-r1-1 unix@/run/a1.sock maxconn 1024 weight 1 disabled",
    ]  # fmt: skip
    assert "server" not in re.sub("use-server", "", pools["pool-4"])
    assert structure(Listen()) in render_config(wanted, Listen())


@pytest.mark.parametrize("bad", ["pool-", "pool-01", "pool-x", "apps", "pool-1 ", "pool-99999"])
def test_names_of_pools_are_checked(bad: str) -> None:
    """As those of servers: they are words of a command."""
    with pytest.raises(InvalidInput):
        Server("a-r1-0", "/run/a.sock", pool=bad)


def test_a_pool_is_one_apps() -> None:
    """Two hosts at one pool would reach each other's replicas."""
    servers = {"a-r1-0": Server("a-r1-0", "/run/a.sock", pool="pool-0")}
    IngressState(servers=servers, hosts={"a.b": "pool-0"}).check()
    with pytest.raises(InvalidInput, match="one pool"):
        IngressState(servers=servers, hosts={"a.b": "pool-0", "c.b": "pool-0"}).check()


def test_the_structure_says_when_a_restart_is_due():
    """Servers come and go without one; ports and addresses do not."""
    assert structure(Listen()) in render_config(state({"a": "s"}), Listen())
    assert structure(Listen()) != structure(Listen(8443))
    assert structure(Listen()) != structure(Listen(addresses=("0.0.0.0",)))
    assert structure(Listen()) != structure(Listen(), HaproxyPaths(certificate="/other.pem"))


def test_listening_is_checked_and_ipv6_is_bracketed():
    """No port or address that HAProxy would refuse gets into its file."""
    assert "bind [::1]:443 ssl crt" in render_config(IngressState(), Listen(), HaproxyPaths(inherits=False))
    assert "https://%[var(txn.host)]%[pathq]" in render_config(IngressState(), Listen())
    assert "https://%[var(txn.host)]:8443%[pathq]" in render_config(IngressState(), Listen(8443))
    for bad in (
        {"https_port": 0},
        {"http_port": 70000},
        {"https_port": 80},
        {"addresses": ()},
        {"addresses": ("x y",)},
    ):
        with pytest.raises(InvalidInput):
            Listen(**bad)
