"""Which names are announced in the local network."""

from __future__ import annotations

from pathlib import Path

from flyted.mdns.names import TABLES, announced, domains, parsed, tables, wire

NONE: dict[str, dict[str, str]] = {name: {} for name in TABLES}
HOUSE = {"box.local": "apps.localhost", "apps.box.lan": "apps.localhost"}


def test_apps_of_each_state_at_domains_of_the_local_network() -> None:
    """Served, stopped, and guarded while it has failed; pages and subdomains; nothing of other domains."""
    found = NONE | {
        "domains.map": HOUSE,
        "hosts.map": {"a.apps.localhost": "a-r1-0"},
        "unavailable.map": {"b.apps.localhost": "stopped"},
        "guarded.map": {"c.apps.localhost": "c"},
        "names.map": {"chat.box.local": "a.apps.localhost", "chat.apps.box.lan": "a.apps.localhost"},
        "authorities.map": {"flyted.box.local": "box.local", "flyted.apps.box.lan": "apps.box.lan"},
    }
    names = {"a.box.local", "b.box.local", "c.box.local", "chat.box.local", "flyted.box.local"}
    assert announced(found) == names


def test_without_such_a_domain_nothing_is() -> None:
    """The program then ends."""
    found = NONE | {"domains.map": {"apps.box.lan": "apps.localhost"}, "hosts.map": {"a.apps.localhost": "a-r1-0"}}
    assert not domains(found)
    assert not announced(found)


def test_a_name_that_dns_cannot_have_is_left_out() -> None:
    """63 characters of a part, 255 of all (RFC 1035 2.3.4)."""
    hosts = {f"{'a' * 64}.apps.localhost": "", ".apps.localhost": "", "b.apps.localhost": ""}
    found = NONE | {"domains.map": {"box.local": "apps.localhost"}, "hosts.map": hosts}
    assert announced(found) == {"b.box.local"}


def test_a_name_on_the_wire() -> None:
    """RFC 1035 3.1."""
    assert bytes(wire("a.box.local")) == b"\1a\3box\5local\0"


def test_tables_are_read_as_the_ingress_writes_them(tmp_path: Path) -> None:
    """A missing one is empty: at the first start of the machine there is none."""
    (tmp_path / "hosts.map").write_text("a.apps.localhost a-r1-0\nb.apps.localhost b-r1-0\n")
    found = tables(tmp_path)
    assert found["hosts.map"] == {"a.apps.localhost": "a-r1-0", "b.apps.localhost": "b-r1-0"}
    assert found["domains.map"] == {}
    assert parsed("\n") == {}
