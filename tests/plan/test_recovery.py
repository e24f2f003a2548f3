"""A lost database is not taken for a new machine's."""

from __future__ import annotations

import pytest

from flyted.plan.recovery import lost_database


@pytest.mark.parametrize(
    ("secrets", "bundles", "apps", "found"),
    [
        (0, 0, [], ""),
        (1, 0, [], "1 secret"),
        (0, 2, [], "2 code bundles"),
        (0, 0, ["a"], "1 app's data"),
        (3, 1, ["a", "b"], "3 secrets, 1 code bundle and 2 apps' data"),
        (3, 0, ["a"], "3 secrets and 1 app's data"),
    ],
)
def test_what_only_apps_can_have_brought_is_named(secrets: int, bundles: int, apps: list[str], found: str) -> None:
    """Nothing of it: a new machine."""
    assert lost_database(secrets, bundles, apps) == found
