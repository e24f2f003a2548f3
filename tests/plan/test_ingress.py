"""The ingress as values: nothing wrong gets in, nothing is left out, every order of changes stays servable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyted.contract.errors import HostFailure, InvalidInput
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
from flyted.plan.ingress.config import HaproxyPaths, render_config, render_maps, structure
from flyted.plan.ingress.paths import keys
from flyted.plan.ingress.state import (
    TABLES,
    IngressState,
    Listen,
    Live,
    Server,
    Unavailable,
    changes,
    draining,
    unavailable,
    word,
)

QUIET = Traffic(in_flight=0, queued=0, started=1, answered=1, last_start_age_s=1.0, longest_s=0.1)
LOADED = replace(QUIET, in_flight=1)


def state(
    apps: dict[str, str], down: tuple[str, ...] = (), limits: dict[str, int] | None = None, guarded: str = "",
    fenced: dict[str, set[str]] | None = None,
) -> IngressState:  # fmt: skip
    """Hosts by letter → server names; every server named is there.

    ``guarded``: letters that want a token; ``fenced``: letters of which only these paths are open.
    """
    fences = fenced or {}
    return IngressState(
        servers={n: Server(n, f"/run/flyted/apps/{n}.sock") for n in sorted(set(apps.values()))},
        hosts={f"{h}.apps.localhost": n for h, n in apps.items()},
        timeouts_ms=limits or {},
        unavailable={f"{h}.apps.localhost": Unavailable("it is stopped") for h in down},
        guarded={f"{h}.apps.localhost": h for h in guarded},
        fenced={f"{h}.apps.localhost": h for h in fences},
        open_paths={k: v for h, paths in fences.items() for k, v in keys(f"{h}.apps.localhost", paths).items()},
    )


def live(have: IngressState, busy: tuple[str, ...] = (), resting: tuple[str, ...] = ()) -> Live:
    """As HAProxy tells it: without socket paths."""
    servers = {n: Server(n, "", s.maxconn) for n, s in have.servers.items()}
    traffic = {n: LOADED if n in busy else QUIET for n in servers}
    return Live(replace(have, servers=servers), traffic, frozenset(resting))


class Model:
    """What HAProxy does with our commands (section 9.3 of its management.txt), and what a visitor would see."""

    def __init__(self, start: Live) -> None:
        self.servers = {n: n not in start.resting for n in start.state.servers}  # name → enabled
        self.busy = {n for n, t in start.traffic.items() if t.busy}
        self.maps: dict[str, dict[str, str]] = {
            "hosts.map": dict(start.state.hosts),
            "timeouts.map": {n: str(v) for n, v in start.state.timeouts_ms.items()},
            "unavailable.map": {h: f"{u.retry_after_s} {u.reason}" for h, u in start.state.unavailable.items()},
            "guarded.map": dict(start.state.guarded),
            "fenced.map": dict(start.state.fenced),
            "open-paths.map": dict(start.state.open_paths),
        }

    def do(self, command: str) -> None:
        words = [w.replace("\\", "") for w in re.findall(r"(?:\\.|[^ ])+", command)]
        match words:
            case ["add", "server", name, path, "maxconn", _, "weight", "0", *_]:
                assert name not in self.servers
                assert path.startswith("unix@/")
                self.servers[name.removeprefix("apps/")] = False
            case ["enable", "server", name]:
                self.servers[name.removeprefix("apps/")] = True
            case ["set", "server", name, "state", "maint"]:
                self.servers[name.removeprefix("apps/")] = False
            case ["del", "server", name]:
                name = name.removeprefix("apps/")
                assert not self.servers[name], "only a server in maintenance can be deleted"
                assert name not in self.busy, "a request would be lost"
                del self.servers[name]
            case ["set", "maxconn", "server", name, _]:
                assert name.removeprefix("apps/") in self.servers
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
        return name if self.servers.get(name) else "broken"

    def reached(self, host: str) -> set[str]:
        """Which of the paths visitors reach."""
        return within(host, self.maps["fenced.map"], self.maps["open-paths.map"])


PATHS = ("/v1", "/generate", "/metrics")


def within(host: str, fenced: Mapping[str, str], opened: Mapping[str, str]) -> set[str]:
    """The open ones of PATHS."""
    return {path for path in PATHS if host not in fenced or f"{host}{path}/" in opened}


letters = st.sampled_from("abcd")
names = st.sampled_from(["a-r1-0", "a-r2-0", "b-r1-0", "c-r1-0"])
states = st.builds(
    lambda apps, down, limited, guarded, fenced: state(
        apps, tuple(down), {n: 1000 + len(n) for n in limited & set(apps.values())}, "".join(sorted(guarded)), fenced
    ),
    st.dictionaries(letters, names),
    st.sets(letters),
    st.sets(names),
    st.sets(letters),
    st.dictionaries(letters, st.sets(st.sampled_from(PATHS))),
)


@settings(max_examples=4 * settings().max_examples, deadline=None)
@given(states, states, st.sets(names), st.sets(names))
def test_every_moment_between_two_commands_is_servable(have, wanted, busy, resting):
    """A host that is served before and after is served at each step in between, by its old or its new server.

    What wants a token wants one from its first moment to its last, and what a fence closes is closed as long. At the
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
            open_before = within(host, have.fenced, have.open_paths)
            open_after = within(host, wanted.fenced, wanted.open_paths)
            assert model.reached(host) >= open_before & open_after, f"{host} is closed after {command!r}"
            if model.answer(host) == after(wanted, host) not in ("503", "421", before[host]):
                assert model.reached(host) <= open_after, f"{host} is open after {command!r}"
    left = draining(start, wanted)
    assert left == {n for n in have.servers if n not in wanted.servers and n in busy}
    assert set(model.servers) == set(wanted.servers) | left
    assert all(model.servers[n] for n in wanted.servers)
    assert model.maps["hosts.map"] == wanted.hosts
    assert set(model.maps["unavailable.map"]) == set(wanted.unavailable)
    assert model.maps["guarded.map"] == wanted.guarded
    assert (model.maps["fenced.map"], model.maps["open-paths.map"]) == (wanted.fenced, wanted.open_paths)
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


@pytest.mark.parametrize("maxconn", [0, -1, 4096, 10**9])
def test_maxconn_stays_below_the_backlog(maxconn):
    """At 4096, the sockets' backlog, the next connect() would fail at once."""
    with pytest.raises(InvalidInput):
        Server("s", "/s", maxconn)


def test_a_host_must_lead_somewhere():
    """A host without its server would be a 503 for nobody's fault."""
    with pytest.raises(InvalidInput, match="leads to server 's', which is not there"):
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
    wanted = state({"a": "a-r1-0", "b": "b-r1-0"}, ("c",), {"a-r1-0": 5000}, "b", {"a": {"/v1"}})
    config, maps = render_config(wanted, Listen()), render_maps(wanted)
    for server in wanted.servers.values():
        assert f"\n    server {server.name} unix@{server.socket_path} maxconn 1024 weight 0\n" in config
    assert maps == {
        "hosts.map": "a.apps.localhost a-r1-0\nb.apps.localhost b-r1-0\n",
        "timeouts.map": "a-r1-0 5000\n",
        "unavailable.map": "c.apps.localhost 30 it is stopped\n",
        "guarded.map": "b.apps.localhost b\n",
        "fenced.map": "a.apps.localhost a\n",
        "open-paths.map": "a.apps.localhost/v1/ open\n",
    }
    assert "@" not in re.sub(r"fd@\d|unix@|[_ ,]@ /", "", config), "no placeholder is left"


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
        assert counted.ids == {"a-r1-0": "1", "b-r1-0": "3"}
        assert (counted.process, counted.structure) == ("42@1795506265", "flyted-0011")
    assert parse_counted(INFO).traffic == {}


def test_what_haproxy_has_is_read_back():
    """Maps, servers, which of them rest, and which file it was started with."""
    hosts = "0x55dc0ab6ff20 a.apps.localhost a-r1-0\n\n"
    maps = {
        "hosts.map": hosts, "timeouts.map": "0x1 a-r1-0 5000\n\n",
        "unavailable.map": "0x1 c.b 30 it's; \\ stopped\n\n", "guarded.map": "0x1 b.c b\n",
        "fenced.map": "0x1 a.apps.localhost a\n", "open-paths.map": "0x1 a.apps.localhost/v1/ open\n",
    }  # fmt: skip
    found = parse_live(STAT, INFO, maps)
    assert found.state.hosts == {"a.apps.localhost": "a-r1-0"}
    assert found.state.servers == {"a-r1-0": Server("a-r1-0", "", 1024), "b-r1-0": Server("b-r1-0", "", 7)}
    assert found.state.timeouts_ms == {"a-r1-0": 5000}
    assert found.state.unavailable == {"c.b": Unavailable("it's; \\ stopped", 30)}
    assert (found.state.guarded, found.state.fenced) == ({"b.c": "b"}, {"a.apps.localhost": "a"})
    assert found.state.open_paths == {"a.apps.localhost/v1/": "open"}
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
