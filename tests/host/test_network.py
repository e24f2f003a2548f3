"""The machine's network, as its files say."""

from __future__ import annotations

from pathlib import Path

from flyted.host import network


def test_name_servers_are_read_as_resolv_conf_writes_them(tmp_path: Path) -> None:
    """Each once; comments, zones and what is no address are left out."""
    lines = ["127.0.0.1", "10.0.0.2", "::1", "fe80::1%eth0", "1:2", "127.0.0.1"]
    text = "".join(f" nameserver {line}\n" for line in lines) + "#nameserver 127.0.0.9\nsearch lan\n"
    (tmp_path / "resolv.conf").write_text(text)
    assert network.nameservers(tmp_path / "resolv.conf") == ("127.0.0.1", "10.0.0.2", "::1", "fe80::1")


def test_a_machine_without_the_file_has_none(tmp_path: Path) -> None:
    """As in a container without a network."""
    assert network.nameservers(tmp_path / "resolv.conf") == ()


def test_the_kernels_tables_are_there() -> None:
    """With their headings; a kernel without IPv6 has no file of addresses, which is no error."""
    for table in filter(None, network.tcp_sockets()):
        assert "local_address" in table.splitlines()[0]
    assert isinstance(network.addresses_ipv6(), str)
