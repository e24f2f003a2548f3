"""Finds the names to announce in the ingress's tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

TABLES = ("domains.map", "hosts.map", "unavailable.map", "guarded.map", "names.map", "authorities.map")
"""The ingress's tables that :func:`announced` reads, each with a key and a value in a line."""
_LONGEST_LABEL, _LONGEST_NAME = 63, 255


def tables(folder: Path) -> dict[str, dict[str, str]]:
    """Return the ingress's tables, by their names; one that is missing is empty."""
    found = {}
    for name in TABLES:
        try:
            found[name] = parsed((folder / name).read_text())
        except FileNotFoundError:
            found[name] = {}
    return found


def domains(tables: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the base domains whose names are announced, each with the machine's own that it stands for."""
    return {site: own for site, own in tables["domains.map"].items() if site.endswith(".local")}


def announced(tables: dict[str, dict[str, str]]) -> frozenset[str]:
    """Return the names that clients in the local network may look up.

    ``tables``: those of :data:`TABLES`, by name. An app that is stopped, or has failed, is announced, too: the ingress
    tells its clients so. The base domain itself is not, since it is mostly the name that Avahi gives the machine.
    """
    found: set[str] = set()
    for site, own in domains(tables).items():
        hosts = {*tables["hosts.map"], *tables["unavailable.map"], *tables["guarded.map"]}
        found |= {f"{host.removesuffix(own)}{site}" for host in hosts if host.endswith(f".{own}")}
        found |= {name for name in (*tables["names.map"], *tables["authorities.map"]) if name.endswith(f".{site}")}
    return frozenset(name for name in found if _is_name(name))


def parsed(text: str) -> dict[str, str]:
    """Return the keys and values of a table."""
    return {key: value for key, _, value in (line.partition(" ") for line in text.splitlines()) if key}


def wire(name: str) -> list[int]:
    """Return a name as the bytes of a DNS record (RFC 1035 3.1)."""
    labels = [label.encode() for label in name.rstrip(".").split(".")]
    return [byte for label in (*labels, b"") for byte in (len(label), *label)]


def _is_name(name: str) -> bool:
    labels: Iterable[str] = name.split(".")
    return name.isascii() and len(name) < _LONGEST_NAME and all(0 < len(each) <= _LONGEST_LABEL for each in labels)
