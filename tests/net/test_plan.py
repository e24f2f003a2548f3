"""Addresses and rules of the apps' network, and that its unit files say the same as the code."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flyted.contract.names import CALLS_ADDRESS, CALLS_NET_UNIT, EGRESS_UNIT, Replica, network_of
from flyted.net import plan, veth
from flyted.plan import calls
from flyted.plan.ingress import internal
from flyted.plan.ingress.ports import CALLS_NAME, INGRESS_UNIT
from flyted.plan.layout import Layout
from flyted.plan.sandbox import CLOSED_NETWORKS, LOOPBACK, STUB_RESOLVERS
from flyted.plan.units import SLICE

ROOT = Path(__file__).parents[2]
UNIT = (ROOT / "units" / EGRESS_UNIT).read_text()


def test_each_app_has_addresses_of_its_own() -> None:
    """All different, none the router's, all in its subnet."""
    numbers = [*range(plan.FIRST, plan.LAST + 1), *range(plan.FIRST_CALLER, plan.LAST_CALLER + 1)]
    net = ipaddress.ip_network(f"{plan.ROUTER}/{plan.PREFIX}", strict=False)
    assert any(net[0] in ipaddress.ip_network(f"{each}/{prefix}") for each, prefix in plan.CLOSED)
    found = {ipaddress.ip_address(plan.address(number)) for number in numbers}
    assert len(found) == len(numbers)
    assert all(each in net for each in found)
    assert not {ipaddress.ip_address(plan.ROUTER), ipaddress.ip_address(plan.CALLS)} & found
    closed_net = ipaddress.ip_network(plan.CLOSED_CALLERS)
    closed = {number for number in numbers if ipaddress.ip_address(plan.address(number)) in closed_net}
    assert closed == set(range(plan.FIRST_CLOSED, plan.LAST_CALLER + 1))
    outside = ipaddress.ip_network(plan.OUTSIDE)
    assert not outside.overlaps(net)
    assert ipaddress.ip_address(plan.RESOLVER) == outside[3]


@pytest.mark.parametrize("number", [plan.FIRST, 255, 256, plan.LAST, plan.FIRST_CALLER, plan.LAST_CALLER])
def test_an_address_says_whose_it_is(number: int) -> None:
    """And one that is no app's is nobody's."""
    assert plan.number(plan.address(number)) == number
    assert plan.number("127.0.0.1") == 0


@pytest.mark.parametrize(
    "address",
    [
        plan.ROUTER,
        plan.address(0),
        plan.address(plan.LAST + 1),
        plan.address(plan.LAST_CALLER + 1),
        plan.CALLS,
        "198.18.255.255",
        plan.RESOLVER,
    ],
)
def test_an_address_that_no_app_can_have_is_nobodys(address: str) -> None:
    """The router's, and what is beyond the last port of the bridge."""
    assert plan.number(address) == 0


def test_a_sender_always_hears_of_room() -> None:
    """At most one segment less one byte is left of the window, and two segments more have to fit."""
    segment = plan.MTU - plan.HEADERS
    assert plan.WINDOW - (segment - 1) >= 2 * segment
    assert plan.WINDOW - segment < 2 * (segment + 1)  # and none is larger


@pytest.mark.parametrize("first", [0, 1020, 1021, 2**32 - 1])
def test_every_number_is_tried(first: int) -> None:
    """Each once, whatever is tried first."""
    tried = list(plan.candidates(first))
    assert sorted(tried) == list(range(plan.FIRST, plan.LAST + 1))
    assert tried[0] == plan.FIRST + first % len(tried)


def test_what_the_sandbox_closes_is_refused_by_the_apps_own_routes() -> None:
    """All of IPv4 but the loopback, in the same words; IPv6 has no route at all. The resolver is not closed."""
    wanted = [ipaddress.ip_network(net) for net in CLOSED_NETWORKS if net not in LOOPBACK]
    closed = [ipaddress.ip_network(f"{target}/{prefix}") for target, prefix in plan.CLOSED]
    assert [net for net in wanted if net.version == 4] == closed[:-1]
    assert ipaddress.ip_address(plan.RESOLVER) in closed[-1]
    assert (plan.RESOLVER, 32) in plan.OPEN
    assert not any(ipaddress.ip_address(plan.RESOLVER) in net for net in closed[:-1])


@pytest.mark.skipif(not shutil.which("nft") and not Path("/usr/sbin/nft").exists(), reason="no nft here")
def test_nft_takes_the_rules() -> None:
    """Checked, not set."""
    done = subprocess.run(
        ["/usr/sbin/nft", "--check", "-f", "-"], input=plan.rules(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or "Operation not permitted" in done.stderr, done.stderr


def test_the_rules_let_nothing_through_by_default() -> None:
    """Each chain that filters drops what no rule names."""
    chains = re.findall(r"type filter hook (\w+) priority 0; policy (\w+);", plan.rules())
    assert sorted(chains) == [("forward", "drop")] * 2 + [("input", "drop")] * 2


def test_the_way_out_reaches_nothing_that_apps_may_not_reach() -> None:
    """slirp4netns's connections count for its own unit: the same networks are closed there, in the same words."""
    assert re.findall(r"^IPAddressDeny=(\S+)$", UNIT, re.MULTILINE) == list(CLOSED_NETWORKS)
    assert re.findall(r"^IPAddressAllow=(\S+)$", UNIT, re.MULTILINE) == list(STUB_RESOLVERS)


def test_what_apps_call_apps_by_is_the_same_everywhere() -> None:
    """The address, its port, the numbers of callers and their folder stand in several places that may not import."""
    numbers = (calls.FIRST, calls.FIRST_CLOSED, calls.LAST)
    assert numbers == (plan.FIRST_CALLER, plan.FIRST_CLOSED, plan.LAST_CALLER)
    assert all(calls.address(number) == plan.address(number) for number in range(calls.FIRST, calls.LAST + 1))
    assert calls.ROUTES == plan.STATUS
    assert plan.OPEN[0] == (CALLS_ADDRESS, 32), "an app that reaches only apps has this route alone"
    assert Layout().calls == veth.GIVEN
    networks = [ipaddress.ip_network(each) for each in internal.CALLER_NETWORKS.split()]
    assert [str(net[0]) for net in networks] == [plan.address(numbers[0]), plan.address(numbers[1])]
    assert str(networks[-1][-1]) == plan.address(numbers[2])
    socket = (ROOT / "units" / "flyted-calls.socket").read_text()
    assert f"\nListenStream={CALLS_ADDRESS}:{plan.CALLS_PORT}\n" in socket
    assert f"\nFileDescriptorName={CALLS_NAME}\n" in socket
    assert f"\nJoinsNamespaceOf={CALLS_NET_UNIT}\n" in socket
    assert f"\nWants={CALLS_NET_UNIT}\n" in UNIT
    assert "\nSockets=flyted-calls.socket\n" in (ROOT / "units" / INGRESS_UNIT).read_text()


def test_the_units_and_the_code_agree() -> None:
    """Names and numbers that stand in both."""
    assert f"nameserver {plan.RESOLVER}\n" in (ROOT / "packaging" / "resolv.conf").read_text()
    assert veth.ROUTER == EGRESS_UNIT
    template = network_of(Replica("demo", 1)).replace("demo-r1-0", "")
    text = (ROOT / "units" / template).read_text()
    assert f"\nPartOf={EGRESS_UNIT} {Replica('demo', 1).socket.replace('demo-r1-0', '%i')}\n" in text
    joins = Replica("demo", 1).service.replace("demo-r1-0", "%i")  # both ways: systemd 252 takes it as it stands
    assert {f"JoinsNamespaceOf={joins}", f"Wants={EGRESS_UNIT}", f"After={EGRESS_UNIT}"} <= set(text.splitlines())
    slices = {re.search(r"^Slice=(\S+)$", each, re.MULTILINE)[1] for each in (UNIT, text)}  # type: ignore[index]
    assert f"\nBefore={SLICE}\n" in UNIT  # it stops after all apps, and no start waits for it
    assert re.search(rf"^Wants=.*\b{SLICE}$", (ROOT / "units" / "flyted.service").read_text(), re.MULTILINE)
    assert len(slices) == 1  # veth.py looks for the router beside its own cgroup
