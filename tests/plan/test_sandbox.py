"""The sandbox as a table: what is closed, what stays open, and that each row says why."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import pytest

from flyted.host.signatures import SIGNATURES
from flyted.plan.sandbox import (
    CLOSED_NETWORKS,
    NETWORK,
    NO_EGRESS,
    SANDBOX,
    Network,
    address,
    sandbox,
    unreachable_nameservers,
)


def closed(target: str) -> bool:
    wanted = ipaddress.ip_address(target)
    denied = sandbox(Network.OWN)["IPAddressDeny"]
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


def test_doctor_hears_of_name_servers_that_apps_cannot_ask() -> None:
    """systemd-resolved's are asked in the apps' name; others on the loopback are not, and apps have no IPv6."""
    asked = ["127.0.0.53", "127.0.0.1", "9.9.9.9", "::1", "2620:fe::fe", "::1"]
    assert unreachable_nameservers(asked) == ("127.0.0.1", "::1", "2620:fe::fe")


def test_every_app_has_a_network_of_its_own() -> None:
    """With its own loopback, and netlink, by which programs list its interfaces; the machine's is nobody's."""
    for network in Network:
        found = sandbox(network)
        assert found["PrivateNetwork"] is True
        calls = [address("198.18.255.1/32")] if network is Network.APPS else []
        assert found["IPAddressAllow"] == [address("127.0.0.0/8"), address("::1/128"), *calls]
        assert "AF_NETLINK" in found["RestrictAddressFamilies"][1]


def test_no_egress_is_closed_twice() -> None:
    """An empty network namespace, and every address but the own loopback denied."""
    assert (2, [0, 0, 0, 0], 0) in sandbox(Network.NONE)["IPAddressDeny"]
    assert (2, [0, 0, 0, 0], 0) in sandbox(Network.APPS)["IPAddressDeny"]


def test_each_network_is_an_entry_of_its_own() -> None:
    """systemd 252 refuses several in one."""
    assert len(sandbox(Network.OWN)["IPAddressDeny"]) == len(CLOSED_NETWORKS) == len(set(CLOSED_NETWORKS))


def test_jits_run() -> None:
    """Writable and executable memory, thread affinity and /proc/meminfo are what numba, torch and psutil need."""
    found = sandbox(Network.OWN)
    assert not {"MemoryDenyWriteExecute", "ProcSubset"} & set(found)
    assert found["SystemCallFilter"] == [(True, ["@system-service"]), (False, ["@privileged"])]


def test_the_table_is_a_table() -> None:
    """A property once, known to the renderer, with a reason."""
    rows = SANDBOX + NETWORK + NO_EGRESS
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.name in SIGNATURES
        assert row.why
        assert row.section.split(":")[0] in ("exec", "resource-control")


def test_run_is_read_only_in_every_unit_that_is_confined() -> None:
    """``ProtectSystem=strict`` alone does not make it so on systemd 257."""
    units = sorted((Path(__file__).parents[2] / "units").glob("*.service"))
    assert len(units) >= 8
    for unit in units:
        text = unit.read_text()
        assert "ProtectSystem=strict" in text
        assert re.search(r"^(ReadOnlyPaths=/run|TemporaryFileSystem=/run:ro,.*)$", text, re.MULTILINE), unit.name
