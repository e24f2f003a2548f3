"""Tells a machine whose database was lost from a new machine, which has none yet. Pure."""

from __future__ import annotations

from collections.abc import Collection


def lost_database(secrets: int, bundles: int, apps: Collection[str]) -> str:
    """Return what this machine has that only earlier use of flyted can have left; "" for a new machine.

    Called when there is no database. ``secrets``: the number of secrets in the store, flyted's own included.
    ``bundles``: the number of code bundles. ``apps``: the folders of apps' data.
    """
    found = [
        f"{count} {one if count == 1 else many}"
        for count, one, many in (
            (secrets, "secret", "secrets"),
            (bundles, "code bundle", "code bundles"),
            (len(apps), "app's data", "apps' data"),
        )
        if count
    ]
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
