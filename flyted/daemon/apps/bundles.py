"""The code bundles of this machine: copied in a thread, held while a deploy needs them, deleted when nothing does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from flyted.base import tasks
from flyted.contract.errors import InvalidInput
from flyted.host import bundles
from flyted.plan.facts import StoredApp


class Bundles:
    """The bundles in ``folder``. ``apps()`` returns the apps whose revisions need their bundles."""

    def __init__(self, folder: Path, apps: Callable[[], Iterable[StoredApp]]) -> None:
        self.folder = folder
        self._apps = apps
        self._coming: Counter[str] = Counter()  # deploys under way, by digest: no revision names it yet

    @contextlib.asynccontextmanager
    async def held(self, digest: str, fd: int | None) -> AsyncIterator[None]:
        """Hold the bundle of a digest ("" for none): the one behind ``fd``, or, without it, one that was kept.

        The daemon goes on while it is copied. Raises as :func:`flyted.host.bundles.keep`, and :class:`InvalidInput`
        when there is neither.
        """
        if not digest:
            yield
            return
        self._coming[digest] += 1
        try:
            if fd is not None:  # to its end, even if the deploy is called off: the descriptor is closed after that
                await tasks.whole(asyncio.to_thread(bundles.keep, self.folder, fd, digest))
            elif not bundles.path_of(self.folder, digest).exists():
                raise InvalidInput("the app's code bundle did not come with the request")
            yield
        finally:
            self._coming[digest] -= 1
            self._coming += Counter()  # drops the counts that are zero

    def sweep(self) -> None:
        """Delete the bundles that neither a revision nor a deploy under way needs."""
        used = {revision.spec.bundle for app in self._apps() for revision in app.revisions}
        bundles.sweep(self.folder, used | set(self._coming), halves=not self._coming)
