"""How long something takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def median_ms(times: int, work: Callable[[], object]) -> float:
    """Return the median time of one piece of work, in milliseconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken)
