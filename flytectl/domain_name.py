"""Reads the names of base domains and of hosts as people type them."""

from __future__ import annotations

from flyted.contract.errors import InvalidInput
from flyted.contract.names import base_domain


def domain_name(text: str) -> str:
    """Return a domain as DNS has it: in lower case, other letters encoded. Raises :class:`InvalidInput`."""
    if text.startswith("*."):
        raise InvalidInput(f"{text} names the hosts of apps", hint=f"give the domain alone: {text[2:]}")
    return base_domain(host_name(text))


def host_name(text: str) -> str:
    """Return a host name as DNS has it, perhaps with ``*.`` before it; an impossible one is returned as it is."""
    star, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    try:
        return star + name.lower().rstrip(".").encode("idna").decode()
    except UnicodeError:
        return text
