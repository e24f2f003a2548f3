"""The bundles of this machine: copied in a thread, held while work needs them, deleted when nothing does.

A bundle is an app's code, or a file or folder that an image copies. The code is needed for as long as a revision
exists. What an image copies is in a layer once the image is built. It is kept for the revision that serves and for one
that is coming up, so that a deploy without a client (``secret create --roll``) can build a lost image again.

A request names its bundles by their SHA-256 and passes them as file descriptors, 32 at most; none that the daemon has
is copied.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flyted.base import tasks
from flyted.contract.errors import InvalidInput
from flyted.host import bundles
from flyted.plan.facts import StoredApp


class Bundles:
    """The bundles in ``folder``. ``apps()`` returns the apps whose revisions need their bundles."""

    def __init__(self, folder: Path, apps: Callable[[], Iterable[StoredApp]]) -> None:
        self.folder = folder
        self._apps = apps
        self._coming: Counter[str] = Counter()  # by digest: what is under way and needs it

    @contextlib.asynccontextmanager
    async def held(self, digests: Collection[str], sent: Mapping[str, int]) -> AsyncIterator[None]:
        """Hold bundles: those of ``sent`` (digest → descriptor) are stored, the others must have been kept.

        The daemon keeps serving while they are copied. Raises as :func:`flyted.host.bundles.keep`, and
        :class:`InvalidInput` for one that there is not.
        """
        self._coming.update(digests)
        try:
            for digest in set(digests) - set(sent):
                if not bundles.path_of(self.folder, digest).exists():
                    raise InvalidInput(
                        f"bundle {digest[:12]}, which the request names, did not come with the request",
                        hint="serve the app's file again",
                    )
            if sent:  # to its end, even if the work is cancelled: the descriptors are closed after that
                await tasks.whole(asyncio.to_thread(bundles.keep, self.folder, dict(sent)))
            yield
        finally:
            self._release(digests)

    def hold_until(self, ended: asyncio.Future[Any], digests: Collection[str]) -> None:
        """Hold bundles until ``ended`` is done: a build continues when no caller waits for it any more."""
        self._coming.update(digests)
        ended.add_done_callback(lambda _: self._release(digests))

    def sweep(self) -> None:
        """Delete the bundles that neither a revision nor work under way needs."""
        used = {digest for app in self._apps() for digest in _needed(app)}
        bundles.sweep(self.folder, used | set(self._coming), halves=not self._coming)

    def _release(self, digests: Collection[str]) -> None:
        self._coming.subtract(digests)
        self._coming += Counter()  # drops the counts that are zero


def check(sent: Mapping[str, int], named: Collection[str], *, in_memory: bool) -> None:
    """Check what came with a request, before a byte of it is read.

    ``named``: the digests that the request's arguments name. ``in_memory``: whether all must be files in memory.
    Raises :class:`InvalidInput` for one that nothing names, and as :func:`flyted.host.bundles.check_memory`.
    """
    for digest, fd in sent.items():
        if digest not in named:
            raise InvalidInput(
                f"bundle {digest[:12]} came with the request, which does not say what it is for",
                hint="install flytectl and flyted of the same version",
            )
        if in_memory:
            bundles.check_memory(fd)


def _needed(app: StoredApp) -> Iterator[str]:
    for revision in app.revisions:
        yield revision.spec.bundle
        if revision is app.current or revision.status == "pending":
            yield from revision.spec.bundles
