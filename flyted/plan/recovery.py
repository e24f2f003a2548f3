"""Whether a database that is not there is that of a new machine, or was lost. Pure."""

from __future__ import annotations

from collections.abc import Collection


def lost_database(secrets: int, bundles: int, apps: Collection[str]) -> str:
    """What else is on this machine that only apps can have brought; "" for a new one.

    ``secrets``: how many the store has, flyted's own too. ``bundles``: code bundles. ``apps``: folders of apps' data.
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
