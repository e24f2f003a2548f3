"""The commands that change the ingress: every order of changes stays servable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.plan.ingress.changes import changes, draining
from flyted.plan.ingress.config import render_config
from flyted.plan.ingress.pools import place
from flyted.plan.ingress.state import IngressState, Listen, Live, Server
from tests.plan.ingresses import live, state


class Model:
    """What HAProxy does with our commands (section 9.3 of its management.txt), and what a visitor would see."""

    def __init__(self, start: Live) -> None:
        # backend/name → enabled
        self.servers = {place(s): n not in start.resting for n, s in start.state.servers.items()}
        self.servers |= start.twins
        self.busy = {n for n, t in start.traffic.items() if t.busy}
        self.maps: dict[str, dict[str, str]] = {
            "hosts.map": dict(start.state.hosts),
            "timeouts.map": {n: str(v) for n, v in start.state.timeouts_ms.items()},
            "unavailable.map": {h: f"{u.retry_after_s} {u.reason}" for h, u in start.state.unavailable.items()},
            "domains.map": dict(start.state.domains),
            "names.map": dict(start.state.names),
            "limits.map": dict(start.state.limits),
            "guarded.map": dict(start.state.guarded),
            "restricted.map": dict(start.state.restricted),
            "open-paths.map": dict(start.state.open_paths),
            "sticky.map": dict(start.state.sticky),
            "watched.map": {n: str(v) for n, v in start.state.watched.items()},
            "awake.map": dict(start.state.awake),
            "kept.map": dict(start.kept),
            "cold.map": dict(start.state.cold),
            "steps.map": dict(start.state.steps),
        }

    def do(self, command: str) -> None:
        words = [w.replace("\\", "") for w in re.findall(r"(?:\\.|[^ ])+", command)]
        match words:
            case ["add", "server", name, path, "maxconn", _, "weight", weight, *_]:
                assert name not in self.servers
                assert path.startswith("unix@/")
                assert weight == ("0" if name.startswith(("apps/", "kept/")) else "1")
                self.servers[name] = False
            case ["enable", "server", name]:
                assert name in self.servers
                self.servers[name] = True
            case ["set", "server", name, "state", "maint"]:
                assert name in self.servers
                self.servers[name] = False
            case ["del", "server", name]:
                assert not self.servers[name], "only a server in maintenance can be deleted"
                assert name.partition("/")[2] not in self.busy, "a request would be lost"
                del self.servers[name]
            case ["set", "maxconn", "server", name, _]:
                assert name in self.servers
            case ["add", "map", path, key, value]:
                table = self.maps[path.rpartition("/")[2]]
                assert key not in table, "a second entry of one key"
                table[key] = value
            case ["set", "map", path, key, value]:
                table = self.maps[path.rpartition("/")[2]]
                assert key in table, "entry not found"
                table[key] = value
            case ["del", "map", path, key]:
                del self.maps[path.rpartition("/")[2]][key]
            case _:
                raise AssertionError(f"not a command of ours: {command}")

    def answer(self, host: str) -> str:
        """503: unavailable, 421: unknown, else the server's name; `broken` if that does not take requests."""
        if host in self.maps["unavailable.map"]:
            return "503"
        name = self.maps["hosts.map"].get(host)
        if name is None:
            return "421"
        if name.startswith("pool-"):
            return name if self.members(name) else "broken"
        return name if self.servers.get(f"apps/{name}") else "broken"

    def members(self, pool: str) -> set[str]:
        """The servers of a pool that get requests."""
        return {n.partition("/")[2] for n, enabled in self.servers.items() if n.startswith(f"{pool}/") and enabled}

    def reached(self, host: str) -> set[str]:
        """Which of the paths visitors reach."""
        return within(host, self.maps["restricted.map"], self.maps["open-paths.map"])


PATHS = ("/v1", "/generate", "/metrics")


def within(host: str, restricted: Mapping[str, str], opened: Mapping[str, str]) -> set[str]:
    """The open ones of PATHS."""
    return {path for path in PATHS if host not in restricted or f"{host}{path}/" in opened}


letters = st.sampled_from("abcd")
names = st.sampled_from(["a-r1-0", "a-r2-0", "b-r1-0", "c-r1-0"])
states = st.builds(
    lambda apps, down, limited, guarded, restricted, rates, domains, other: state(
        apps,
        tuple(down),
        {n: 1000 + len(n) for n in limited & set(apps.values())},
        "".join(sorted(guarded)),
        restricted,
        rates,
        domains,
        other,
    ),
    st.dictionaries(letters, names),
    st.sets(letters),
    st.sets(names),
    st.sets(letters),
    st.dictionaries(letters, st.sets(st.sampled_from(PATHS))),
    st.dictionaries(letters, st.sampled_from([1.0, 50.0])),
    st.sets(st.sampled_from(["apps.example.org", "apps.box.lan"])),
    st.dictionaries(st.sampled_from(["chat.example.org", "b.example.org"]), letters),
)


@settings(max_examples=4 * settings().max_examples, deadline=None)
@given(states, states, st.sets(names), st.sets(names))
def test_every_moment_between_two_commands_is_servable(have, wanted, busy, resting):
    """A host that is served before and after is served at each step in between, by its old or its new server.

    What wants a token wants one from its first moment to its last, and what is restricted is closed as long. At the
    end exactly what is wanted is there, plus the servers that still answer requests.
    """
    held = set(have.hosts.values())
    start = live(have, tuple(busy), tuple(resting - held))
    model = Model(start)
    hosts = set(have.hosts) | set(wanted.hosts) | set(have.unavailable) | set(wanted.unavailable)
    before = {h: model.answer(h) for h in hosts}
    for command in changes(start, wanted):
        model.do(command)
        for host in hosts:
            allowed = {before[host], after(wanted, host)}
            assert model.answer(host) in allowed, f"{host} after {command!r}"
            if before[host] != after(wanted, host) and model.answer(host) not in ("503", "421"):
                guarded = wanted.guarded if model.answer(host) == after(wanted, host) else have.guarded
                assert host not in guarded or host in model.maps["guarded.map"], f"{host} is open after {command!r}"
                limits = wanted.limits if model.answer(host) == after(wanted, host) else have.limits
                assert host not in limits or host in model.maps["limits.map"], f"{host} has no limit at {command!r}"
            open_before = within(host, have.restricted, have.open_paths)
            open_after = within(host, wanted.restricted, wanted.open_paths)
            assert model.reached(host) >= open_before & open_after, f"{host} is closed after {command!r}"
            if model.answer(host) == after(wanted, host) not in ("503", "421", before[host]):
                assert model.reached(host) <= open_after, f"{host} is open after {command!r}"
    left = draining(start, wanted)
    assert left == {n for n in have.servers if n not in wanted.servers and n in busy}
    assert set(model.servers) == {place(s) for s in wanted.servers.values()} | {place(have.servers[n]) for n in left}
    assert all(model.servers[place(s)] is not s.rests for s in wanted.servers.values())
    assert model.maps["hosts.map"] == wanted.hosts
    assert set(model.maps["unavailable.map"]) == set(wanted.unavailable)
    assert (model.maps["guarded.map"], model.maps["limits.map"]) == (wanted.guarded, wanted.limits)
    assert (model.maps["restricted.map"], model.maps["open-paths.map"]) == (wanted.restricted, wanted.open_paths)
    assert {k: v for k, v in model.maps["timeouts.map"].items() if k in wanted.servers} == {
        n: str(v) for n, v in wanted.timeouts_ms.items()
    }


def after(wanted: IngressState, host: str) -> str:
    return "503" if host in wanted.unavailable else wanted.hosts.get(host, "421")


@given(states)
def test_nothing_changes_when_nothing_is_to_change(wanted):
    """Applying twice does nothing the second time: no command touches a server that serves."""
    assert changes(live(wanted), wanted) == []


def test_a_new_app_is_these_commands_in_this_order():
    """Server, enabled, then the host that leads to it."""
    assert changes(Live(IngressState()), state({"a": "a-r1-0"}, limits={"a-r1-0": 60_000})) == [
        "add map /run/flyted/ingress/timeouts.map a-r1-0 60000",
        "add server apps/a-r1-0 unix@/run/flyted/apps/a-r1-0.sock maxconn 1024 weight 0",
        "enable server apps/a-r1-0",
        "add map /run/flyted/ingress/hosts.map a.apps.localhost a-r1-0",
    ]


def test_a_program_that_speaks_http2_is_spoken_to_in_it():
    """In the command and in the file; the same server is not made again, since HAProxy does not tell how it speaks."""
    server = Server("a-r1-0", "/run/flyted/apps/a-r1-0.sock", h2=True)
    wanted = replace(state({"a": "a-r1-0"}), servers={"a-r1-0": server})
    line = "unix@/run/flyted/apps/a-r1-0.sock maxconn 1024 weight 0 proto h2"
    assert f"add server apps/a-r1-0 {line}" in changes(Live(IngressState()), wanted)
    assert f"    server a-r1-0 {line}\n" in render_config(wanted, Listen())
    assert changes(live(wanted), wanted) == []


def test_a_new_revision_takes_over_in_one_command():
    """One `set map` moves the host; the old server goes after that, and stays while it answers somebody."""
    old, new = state({"a": "a-r1-0"}), state({"a": "a-r2-0"})
    switch = "set map /run/flyted/ingress/hosts.map a.apps.localhost a-r2-0"
    removal = ["set server apps/a-r1-0 state maint", "del server apps/a-r1-0"]
    assert changes(live(old), new)[-3:] == [switch, *removal]
    assert changes(live(old, busy=("a-r1-0",)), new)[-1] == switch


def test_a_changed_maxconn_is_set_in_place():
    """A server is not replaced for a new limit."""
    have = state({"a": "a-r1-0"})
    wanted = replace(have, servers={"a-r1-0": Server("a-r1-0", "/s.sock", 7)})
    assert changes(live(have), wanted) == ["set maxconn server apps/a-r1-0 7"]


letter_pools = st.dictionaries(
    st.sampled_from("abc"),
    st.tuples(st.integers(0, 1), st.lists(st.tuples(st.integers(1, 2), st.integers(0, 2), st.booleans()), max_size=4)),
)


def pooled(found: dict[str, tuple[int, list[tuple[int, int, bool]]]]) -> IngressState:
    """Apps with pools, each of which has a replica that gets requests; or, without replicas, a server of its own."""
    pools, alone, taken = {}, {}, set()
    for letter, (number, members) in found.items():
        if not members or number in taken:
            alone[letter] = f"{letter}-r3-0"
            continue
        taken.add(number)
        (revision, first, _), *_ = members
        names = {f"{letter}-r{each}-{replica}": serves for each, replica, serves in members}
        pools[letter] = (number, {**names, f"{letter}-r{revision}-{first}": True})
    return state(alone, pools=pools)


@settings(max_examples=4 * settings().max_examples, deadline=None)
@given(letter_pools, letter_pools, st.sets(st.sampled_from([f"{a}-r{r}-0" for a in "abc" for r in (1, 2, 3)])))
def test_a_request_reaches_the_replicas_of_its_own_app(before, after_, busy):
    """At each moment between two commands, whatever pool an app had and has, and which app has it then.

    A host that leads to a pool, before and after, always finds a replica there that gets requests. Only a host whose
    pool becomes another app's has no way for a moment.
    """
    have, wanted = pooled(before), pooled(after_)
    start = live(have, tuple(busy))
    model = Model(start)
    for command in changes(start, wanted):
        model.do(command)
        for host in have.hosts.keys() & wanted.hosts.keys():
            answer, letter = model.answer(host), host[0]
            assert answer != "broken", f"{host} after {command!r}"
            if answer.startswith("pool-"):
                assert {name[0] for name in model.members(answer)} == {letter}, f"{host} after {command!r}"
            taken = have.hosts[host] != wanted.hosts[host] and have.hosts[host] in wanted.hosts.values()
            assert answer != "421" or taken, f"{host} has no way after {command!r}"
    for name in wanted.hosts.values():
        if name.startswith("pool-"):
            assert model.members(name) == {s.name for s in wanted.servers.values() if s.pool == name and not s.rests}


def test_a_new_revision_in_a_pool_gets_requests_before_the_old_one_gets_none() -> None:
    """And the old one stays until its last request is answered."""
    old = state({}, pools={"a": (7, {"a-r1-0": True, "a-r1-1": True})})
    new = state({}, pools={"a": (7, {"a-r2-0": True, "a-r1-0": False})})
    path = "unix@/run/flyted/apps/a-r2-0.sock maxconn 1024 weight 1"
    assert changes(live(old, busy=("a-r1-0",)), new) == [
        f"add server pool-7/a-r2-0 {path}",
        "enable server pool-7/a-r2-0",
        "set server pool-7/a-r1-0 state maint",
        "set server pool-7/a-r1-1 state maint",
        "set server pool-7/a-r1-1 state maint",
        "del server pool-7/a-r1-1",
    ]


def test_a_replica_that_rests_is_enabled_again() -> None:
    """It is not made anew: requests may still run there."""
    rests, serves = (state({}, pools={"a": (7, {"a-r1-0": True, "a-r1-1": serves})}) for serves in (False, True))
    assert changes(live(rests), serves) == ["enable server pool-7/a-r1-1"]
    assert changes(live(serves), rests) == ["set server pool-7/a-r1-1 state maint"]
