"""Which ports the ingress takes: read from the text of /proc, decided, and said."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.errors import HostFailure
from flyted.host.signatures import properties
from flyted.plan.ingress.config import render_config
from flyted.plan.ingress.ports import (
    CALLS_NAME,
    INGRESS_SOCKET,
    choose_ports,
    ingress_socket,
    listeners,
    listening,
    loopback_addresses,
)
from flyted.plan.ingress.state import IngressState, Listen

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(local: str, state: str = "0A") -> str:
    return f"   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 1 1 0\n"


def row6(local: str, state: str = "0A") -> str:
    return row(local, state).replace("00000000:0000 ", "0" * 32 + ":0000 ", 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (row("0100007F:01BB"), {443}),
        (row("00000000:01BB"), {443}),
        (row("0100007F:01BB", "01"), set()),  # an established connection is no listener
        (row("0A01A8C0:01BB"), set()),  # 192.168.1.10 does not stop us from 127.0.0.1
        ("", set()),
    ],
)
def test_only_listeners_that_are_in_the_way_count(text, found):
    """A listener on the same address or on all of them takes the port; others and connections do not."""
    assert listening(HEAD + text) == found


def test_ipv6_listeners_count_for_both_families():
    """`[::]` usually takes IPv4 along; `[::1]` takes its own; a mapped IPv4 address is that IPv4 address."""
    every, one, other = "0" * 32, "0" * 24 + "01000000", "000080FE" + "0" * 24
    mapped = "0" * 16 + "FFFF0000" + "0100007F"
    text = HEAD + row6(f"{every}:0050") + row6(f"{one}:01BB") + row6(f"{other}:1F90") + row6(f"{mapped}:1F91")
    assert listening(HEAD, text) == {80, 443, 8081}
    assert listening(HEAD, text, ("127.0.0.1",)) == {80, 8081}
    assert listening(HEAD, text, ("0.0.0.0",)) == {80, 443, 8080, 8081}


def test_it_reads_this_kernels_own_format():
    """A socket that really listens is found in the real /proc/self/net/tcp."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert port in listening(Path("/proc/self/net/tcp").read_text(), Path("/proc/self/net/tcp6").read_text())
    assert port not in listening(Path("/proc/self/net/tcp").read_text())


def test_free_ports_are_the_usual_ones_without_a_note():
    """443 and 80, and nothing to say."""
    assert choose_ports(set()) == (Listen(443, 80), ())


def test_a_taken_port_is_replaced_and_named():
    """The next free port counting from 8443 or 8080; one sentence says which was taken and what is used."""
    listen, notes = choose_ports({443, 8443, 80})
    assert (listen.https_port, listen.http_port) == (8444, 8080)
    assert notes == (
        "port 443 is taken by another program: HTTPS is served on port 8444",
        "port 80 is taken by another program: HTTP is served on port 8080",
    )


def test_what_the_ingress_holds_itself_is_not_taken():
    """A restart of the daemon beside a running ingress changes no port."""
    assert choose_ports({443, 80}, ours={443, 80}) == (Listen(443, 80), ())


@given(st.sets(st.integers(1, 9000), max_size=60), st.integers(1, 9000), st.integers(1, 9000))
def test_a_choice_is_never_taken_and_never_twice_the_same(taken, https, http):
    """Whatever is taken and wanted: two different ports, none of them taken."""
    listen, _notes = choose_ports(taken, https, http)
    assert listen.https_port != listen.http_port
    assert not {listen.https_port, listen.http_port} & taken


def read_by_haproxy(config, names):
    """What is left of a configuration where systemd passes descriptors of these names."""
    left, holds = [], []
    for line in config.splitlines():
        word, _, condition = line.strip().partition(" ")
        if word == ".if":
            tests = re.findall(r'streq\("\$LISTEN_FDNAMES","([^"]*)"\)', condition)
            holds.append(":".join(names) in tests if tests else True)
        elif word == ".else":
            holds[-1] = not holds[-1]
        elif word == ".endif":
            holds.pop()
        elif all(holds):
            left.append(line)
    return "\n".join(left)


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("127.0.0.1", "::1"), ("0.0.0.0", "::", "192.0.2.1")])
@pytest.mark.parametrize("calls", [None, "first", "last"])
def test_haproxy_takes_each_listener_for_what_it_is(addresses, calls):
    """The first of the ingress's own is the admin socket; every ``bind fd@N`` is the listener that it names.

    That for calls between apps, if it is there, comes before or behind these.
    """
    listen = Listen(8443, 8080, addresses)
    own = [INGRESS_SOCKET] * len(listeners(listen))
    names = {None: own, "first": [CALLS_NAME, *own], "last": [*own, CALLS_NAME]}[calls]
    config = read_by_haproxy(render_config(IngressState(), listen), names)
    first = 4 if calls == "first" else 3
    assert re.findall(r"stats socket fd@(\d+) level admin", config) == [str(first)]
    assert listeners(listen)[0] == "/run/flyted/admin.sock"
    https, _, http = config.partition("frontend http\n")
    http, _, internal = http.partition("frontend internal\n")
    found = {}
    for part, port in ((https, 8443), (http, 8080)):
        for fd, where in re.findall(r"bind fd@(\d+) .*# (\S+)", part):
            assert where.endswith(f":{port}")
            found[int(fd)] = where
    assert found == dict(enumerate(listeners(listen)[1:], first + 1))
    assert re.findall(r"bind fd@(\d+)", internal) == ([str(3 + names.index(CALLS_NAME))] if calls else [])
    assert ".alert" not in config


@pytest.mark.parametrize("names", [[CALLS_NAME], [], [INGRESS_SOCKET], [CALLS_NAME, INGRESS_SOCKET]])
def test_haproxy_does_not_start_with_other_descriptors(names):
    """One for clients would be its admin socket, say."""
    assert ".alert" in read_by_haproxy(render_config(IngressState(), Listen()), names)


def test_the_listeners_outlast_whatever_haproxy_does():
    """No limit on triggers closes them, an address may come later, and IPv6 leaves IPv4's port alone."""
    unit = ingress_socket(Listen())
    assert unit["TriggerLimitIntervalUSec"] == 0
    assert unit["FreeBind"] is True
    assert unit["SocketMode"] == 0o600
    assert unit["BindIPv6Only"] == "ipv6-only"
    assert ingress_socket(Listen(addresses=("::",)))["BindIPv6Only"] == "default"
    assert unit["Listen"][1:3] == [("Stream", "127.0.0.1:443"), ("Stream", "[::1]:443")]
    assert properties(unit)


def test_no_port_at_all_is_an_error_that_names_them():
    """A hundred taken ports in a row end in a message, not in a loop."""
    with pytest.raises(HostFailure, match="443 and 8443 to 8542 are all taken"):
        choose_ports({443, *range(8443, 8543)})


def test_a_machine_without_ipv6_is_not_asked_for_it():
    """::1 is only listened on where the kernel has it: HAProxy would not start otherwise."""
    lo = "00000000000000000000000000000001 01 80 10 80       lo\n"
    assert loopback_addresses(lo) == ("127.0.0.1", "::1")
    assert loopback_addresses("fe800000000000000000000000000001 02 40 20 80 eth0\n") == ("127.0.0.1",)
    assert loopback_addresses("") == ("127.0.0.1",)
