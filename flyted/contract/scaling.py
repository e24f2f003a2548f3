"""Checks how many replicas an app may have, and what decides about their number (``flyte.app.Scaling``)."""

from __future__ import annotations

from flyted.contract.errors import InvalidInput
from flyted.contract.names import AppKey

MAX_REPLICAS = 64
"""The most replicas of one app."""
MAX_TARGET = 1_000_000


def check(app: AppKey, low: int, high: int, concurrency: int, request_rate: int) -> None:
    """Raise :class:`InvalidInput` for numbers of replicas, or for a metric, that are not valid.

    ``low``, ``high``: the least and the most replicas. ``concurrency``, ``request_rate``: requests at once, or a
    second, for each replica; 0 for the one that does not count.
    """
    if not (0 <= low <= high and 1 <= high <= MAX_REPLICAS):
        raise InvalidInput(
            f"app '{app}': replicas=({low}, {high}) is not valid: 0 to {MAX_REPLICAS}, the smaller number first",
            hint="use replicas=(0, 1)",
        )
    if concurrency and request_rate:
        raise InvalidInput(f"app '{app}' is scaled by one metric: Concurrency or RequestRate")
    for value in (concurrency, request_rate):
        if not 0 <= value <= MAX_TARGET:
            raise InvalidInput(f"app '{app}': a metric's value must be 1 to {MAX_TARGET}")
