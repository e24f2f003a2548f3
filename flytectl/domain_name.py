"""Reads the name of a base domain as people type it."""

from __future__ import annotations

from flyted.contract.errors import InvalidInput
from flyted.contract.names import base_domain


def domain_name(text: str) -> str:
    """Return a domain as DNS has it: in lower case, other letters encoded. Raises :class:`InvalidInput`."""
    if text.startswith("*."):
        raise InvalidInput(f"{text} names the hosts of apps", hint=f"give the domain alone: {text[2:]}")
    try:
        found = text.lower().rstrip(".").encode("idna").decode()
    except UnicodeError:
        found = text
    return base_domain(found)
