"""Reads the secrets of Flyte's IDL: those of an app, for the clients, and those of an image, for the daemon. Pure."""

from __future__ import annotations

from typing import Any

from flyted.contract.app import SecretUse
from flyted.contract.errors import Unsupported
from flyted.contract.names import printable


def secret_use(secret: dict[str, Any]) -> SecretUse:
    """Read one secret: a file named after the key for ``mountRequirement`` FILE, else a variable.

    Two groups may have a secret of the same key, so the group is a part of its name in the store. Source:
    flyteidl2/core/security.proto. Raise :class:`Unsupported` for a group version and for another
    ``mountRequirement``, and :class:`InvalidInput` for a bad name.
    """
    key, group = str(secret.get("key", "")), str(secret.get("group", ""))
    if secret.get("groupVersion"):
        raise Unsupported(f"secret {printable(key)}: flyted keeps no versions of groups")
    stored = f"{group}/{key}" if group else key
    mount = secret.get("mountRequirement", "ANY")
    if mount not in ("ANY", "ENV_VAR", "FILE"):  # protobuf keeps a newer SDK's number
        raise Unsupported(
            f"secret {printable(key)}: mountRequirement {printable(mount)} is not known to this version of flyted"
        )
    if mount == "FILE":
        return SecretUse(stored, file=key)
    name = f"{group}_{key}" if group else key
    return SecretUse(stored, env=str(secret.get("envVar") or name.upper().replace("-", "_")))
