"""Watches whether apps keep more than they ask for (``resources.disk``), and says so; nothing enforces it.

A limit would be a project quota. systemd sets one from version 258 on (``StateDirectoryQuota=``); to set it without
systemd needs CAP_SYS_ADMIN, which flyted has not (plan/disk.py).

Files are counted when the app has come to rest, and now and then while it runs, at passes that are made anyway: there
is no timer, so a machine at rest stays at rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from flyted.base import tasks
from flyted.contract.answers.apps import AppFolder
from flyted.contract.errors import HostFailure
from flyted.contract.names import replica_of
from flyted.daemon.apps.data import AppData
from flyted.daemon.listeners import Pass
from flyted.daemon.loop import Loop
from flyted.host.store import Store
from flyted.plan.disk import over

log = logging.getLogger(__name__)

AGAIN_S = 600.0
"""Seconds after which the files of an app that runs are counted again, when there is a pass."""


class DiskWatch:
    """What is known of apps that ask for disk space. It hears of the passes of a loop, and of sizes that are found."""

    def __init__(self, data: AppData, store: Store, loop: Loop, clock: Callable[[], float] = time.monotonic) -> None:
        self._data = data
        self._store = store
        self._clock = clock
        self._counted: dict[str, float] = {}
        """The apps that run and ask for disk space, and when their files were counted."""
        self._over: dict[str, str] = {}
        self._due: list[str] = []
        data.counted = self.found
        loop.listeners.add(self.passed)

    def passed(self, done: Pass) -> None:
        """Look at a pass: whose files are to be counted. It goes through what runs, not through what exists."""
        running = {replica.app_id for name in done.facts.index.others if (replica := replica_of(name)) is not None}
        running = {app_id for app_id in running if self._asked(app_id)}
        now = self._clock()
        ended = [app_id for app_id in self._counted if app_id not in running]
        due = [app_id for app_id in running if now - self._counted.get(app_id, now - AGAIN_S) >= AGAIN_S]
        self._counted = {app_id: now if app_id in due else self._counted[app_id] for app_id in running}
        if not self._due and (due or ended):
            self._due = [*due, *ended]
            tasks.begin(self._count())

    def note(self, app_id: str) -> str:
        """Return what is to be said of an app; "" if it does not keep more than it asks for, as far as is known."""
        return self._over.get(app_id, "") if self._asked(app_id) else ""

    def found(self, app_id: str, size: AppFolder) -> None:
        """Take the size of an app's data, which somebody has asked for."""
        said = over(self._asked(app_id), size.bytes + size.cache_bytes)
        if said and not self._over.get(app_id):
            log.warning("app %s: %s", app_id, said)
        self._over[app_id] = said

    def _asked(self, app_id: str) -> int:
        """Return the bytes that an app asks for; 0 for one that asks for none, or is not there."""
        app = self._store.get(app_id)
        return app.current.spec.disk_bytes if app is not None and app.current is not None else 0

    async def _count(self) -> None:
        while self._due:
            app_id = self._due[0]
            try:
                self._data.forget(app_id)
                await self._data.of(app_id)  # which tells it to `found`
            except HostFailure as error:
                log.warning("%s", error.message)
            self._due.pop(0)
