"""The certificates and keys that operators gave for base domains: in the vault, encrypted like any secret."""

from __future__ import annotations

import contextlib
import hashlib

from flyted.contract.errors import NotFound
from flyted.host.given_certificate import Given, given
from flyted.host.vault import Vault


def keep(vault: Vault, domain: str, found: Given) -> None:
    """Store a certificate with its key, in place of the domain's earlier one. Raises as :meth:`Vault.put_internal`."""
    vault.put_internal(_name(domain), found.pem)


def kept(vault: Vault, domain: str) -> Given:
    """Return the certificate of a domain. Raises as :meth:`Vault.get_internal`."""
    return given(vault.get_internal(_name(domain)))


def forget(vault: Vault, domain: str) -> None:
    """Delete the certificate of a domain, if there is one. Raises as :meth:`Vault.delete_internal`."""
    with contextlib.suppress(NotFound):
        vault.delete_internal(_name(domain))


def _name(domain: str) -> str:
    """Return the name in the vault, whose names have no dots and may be shorter than a domain."""
    return f"site-{hashlib.sha256(domain.encode()).hexdigest()[:32]}"
