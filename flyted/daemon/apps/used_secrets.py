"""Looks up the secrets that an app uses, as they are now."""

from __future__ import annotations

from flyted.contract.app import AppSpec
from flyted.contract.errors import InvalidInput, SecretNotFound
from flyted.contract.names import SecretScope
from flyted.host.manifest import Entry
from flyted.host.vault import Vault
from flyted.plan.secrets import credential_bytes

LIMIT = 900 * 1024  # a unit has room for 1 MiB of credentials, the checksums among them


def used_secrets(spec: AppSpec, vault: Vault) -> list[tuple[SecretScope, Entry]]:
    """Return what each secret of an app stands for now, in the order of ``spec.secrets``.

    Raises :class:`SecretNotFound`, which names all that are missing, :class:`InvalidInput` when they are too large
    together, and :class:`StoreCorrupt` when the store is refused.
    """
    found, missing = [], []
    for use in spec.secrets:
        try:
            found.append(vault.find(use.key, spec.key.project, spec.key.domain))
        except SecretNotFound:
            missing.append(use.key)
    if missing:
        names = ", ".join(f"'{key}'" for key in missing)
        raise SecretNotFound(
            f"app '{spec.key}' needs secret {names}, which is not in the store",
            hint="; ".join(f"flytectl secret create {key}" for key in missing),
        )
    total = sum(credential_bytes(entry.size) for _scope, entry in found)
    if total > LIMIT:
        raise InvalidInput(
            f"the secrets of app '{spec.key}' are {total >> 10} KiB together; the limit is 900 KiB",
            hint="keep large data in encrypted files, and store only their keys as secrets",
        )
    return found
