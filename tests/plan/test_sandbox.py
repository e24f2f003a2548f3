"""The sandbox as a table: what is closed, what stays open, and that each row says why."""

from __future__ import annotations

import ipaddress

import pytest

from flyted.host.signatures import SIGNATURES
from flyted.plan.sandbox import (
    CLOSED_NETWORKS,
    EGRESS,
    NO_EGRESS,
    OWN_NETWORK,
    SANDBOX,
    Network,
    address,
    sandbox,
    unreachable_nameservers,
)


def closed(target: str) -> bool:
    wanted = ipaddress.ip_address(target)
    denied = sandbox(Network.MACHINE)["IPAddressDeny"]
    networks = [ipaddress.ip_network((bytes(raw), prefix)) for _family, raw, prefix in denied]
    return any(wanted in net for net in networks)


@pytest.mark.parametrize(
    "target",
    ["127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "169.254.169.254", "fe80::1", "fd00:ec2::254", "fd20:ce::254",
     "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b::127.0.0.1",
     "168.63.129.16", "100.100.100.200", "224.0.0.251", "ff02::fb", "255.255.255.255"],
)  # fmt: skip
def test_this_machine_and_the_metadata_services_are_closed(target: str) -> None:
    """Whoever is local is trusted by many services, and the metadata services give out credentials: in every form."""
    assert closed(target)


@pytest.mark.parametrize("target", ["192.168.1.10", "10.0.0.1", "1.1.1.1", "2606:4700::1111", "100.64.0.1"])
def test_the_rest_of_the_network_is_open(target: str) -> None:
    """The same file must run: databases of the own network, the internet."""
    assert not closed(target)


def test_the_stub_resolver_is_opened_when_the_host_uses_it() -> None:
    """systemd-resolved listens on an address of its own; other loopback addresses stay closed, and doctor is told."""
    assert "IPAddressAllow" not in sandbox(Network.MACHINE, nameservers=["192.168.1.1"])
    assert sandbox(Network.MACHINE, nameservers=["127.0.0.53"])["IPAddressAllow"] == [address("127.0.0.53")]
    assert "IPAddressAllow" not in sandbox(Network.MACHINE, nameservers=["127.0.0.1", "::1"])
    assert unreachable_nameservers(["127.0.0.53", "127.0.0.1", "9.9.9.9", "::1"]) == ("127.0.0.1", "::1")


def test_no_egress_is_an_own_network() -> None:
    """Two locks: an empty network namespace, and every address but the own loopback denied."""
    found = sandbox(Network.NONE)
    assert found["PrivateNetwork"] is True
    assert (2, [0, 0, 0, 0], 0) in found["IPAddressDeny"]
    assert "PrivateNetwork" not in sandbox(Network.MACHINE)


def test_a_network_of_its_own_has_a_way_out() -> None:
    """Its own loopback is its own; what is closed to others is closed to it; the machine's stub is not there."""
    found = sandbox(Network.OWN, nameservers=["127.0.0.53"])
    assert found["PrivateNetwork"] is True
    assert found["IPAddressDeny"] == sandbox(Network.MACHINE)["IPAddressDeny"]
    assert found["IPAddressAllow"] == [address("127.0.0.0/8"), address("::1/128")]


def test_each_network_is_an_entry_of_its_own() -> None:
    """systemd 252 refuses several in one."""
    assert len(sandbox(Network.MACHINE)["IPAddressDeny"]) == len(CLOSED_NETWORKS) == len(set(CLOSED_NETWORKS))


def test_jits_run() -> None:
    """Writable and executable memory, thread affinity and /proc/meminfo are what numba, torch and psutil need."""
    found = sandbox(Network.MACHINE)
    assert not {"MemoryDenyWriteExecute", "ProcSubset"} & set(found)
    assert found["SystemCallFilter"] == [(True, ["@system-service"]), (False, ["@privileged"])]


def test_the_table_is_a_table() -> None:
    """A property once, known to the renderer, with a reason."""
    for rows in (SANDBOX + EGRESS, SANDBOX + OWN_NETWORK, SANDBOX + NO_EGRESS):
        names = [row.name for row in rows]
        assert len(names) == len(set(names))
    for row in SANDBOX + EGRESS + NO_EGRESS:
        assert row.name in SIGNATURES
        assert row.why
        assert row.section.split(":")[0] in ("exec", "resource-control")
