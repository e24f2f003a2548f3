"""Remembers for ten minutes which registries did not answer, so that not every deploy waits for their retries.

A registry is forgotten earlier if the machine's name servers or routes change: it may answer then. flyted has to be
restarted to read changed settings, such as proxies and mirrors, and starts without any memory of registries.

That a registry is silent counts only for what there is something else for: an image that is known, or a Debian. All
others are asked for each time. So it does not matter that a limit of requests (429) may end sooner or later than this.
A pull itself waits as long as Retry-After says, a minute at most, between its tries.
"""

from __future__ import annotations

import asyncio

from flyted.host.network import circumstances

KEPT_S = 600


class Silent:
    """The registries that did not answer."""

    def __init__(self) -> None:
        self._at: dict[str, tuple[float, str]] = {}

    def add(self, registry: str) -> None:
        """Record that a registry has not answered."""
        self._at[registry] = (_now(), circumstances())

    def forget(self, registry: str) -> None:
        """Record that it has answered."""
        self._at.pop(registry, None)

    def __contains__(self, registry: object) -> bool:
        """Report whether a registry has not answered a short time ago."""
        noted = self._at.get(str(registry))
        return noted is not None and _now() - noted[0] < KEPT_S and noted[1] == circumstances()


def _now() -> float:
    return asyncio.get_running_loop().time()
