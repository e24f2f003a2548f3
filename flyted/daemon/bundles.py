"""The code bundles of this machine: kept beside the loop while a deploy needs them, swept when no revision does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from flyted.contract.errors import InvalidInput
from flyted.host import bundles
from flyted.plan.facts import StoredApp


class Bundles:
    """``apps()`` are those whose revisions need their bundles."""

    def __init__(self, folder: Path, apps: Callable[[], Iterable[StoredApp]]) -> None:
        self.folder = folder
        self._apps = apps
        self._coming: Counter[str] = Counter()  # of deploys under way, by digest: no revision has them on record yet

    @contextlib.asynccontextmanager
    async def held(self, digest: str, fd: int | None) -> AsyncIterator[None]:
        """Inside, the bundle of a digest ("" for none) is there: the one behind ``fd``, or one that was kept before.

        The daemon goes on while it is copied. Raises as :func:`flyted.host.bundles.keep`.
        """
        if not digest:
            yield
            return
        self._coming[digest] += 1
        try:
            if fd is not None:
                await _whole(asyncio.to_thread(bundles.keep, self.folder, fd, digest))
            elif not bundles.path_of(self.folder, digest).exists():
                raise InvalidInput("the app's code bundle did not come with the request")
            yield
        finally:
            self._coming[digest] -= 1
            self._coming += Counter()  # without those at zero

    def sweep(self) -> None:
        """Deletes bundles that no revision, and no deploy under way, needs."""
        used = {revision.spec.bundle for app in self._apps() for revision in app.revisions}
        bundles.sweep(self.folder, used | set(self._coming), halves=not self._coming)


async def _whole(copy: Coroutine[Any, Any, None]) -> None:
    """Waits for a copy also when its deploy is called off meanwhile: the descriptor is open until then."""
    work = asyncio.ensure_future(copy)
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
