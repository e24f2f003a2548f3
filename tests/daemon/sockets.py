"""Control sockets served by a thread, for the blocking client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path

from flyted.daemon.api.control import Control, Owner
from flyted.daemon.api.verbs import Verb


class Sockets:
    """``places``: where each socket lies, and whose token speaks there (``None``: the peer itself speaks)."""

    def __init__(self, places: Mapping[Path, Owner | None], verbs: Mapping[str, Verb]) -> None:
        self.loop = asyncio.new_event_loop()
        self.listeners = []
        self.journal: list[list[tuple[str, str]]] = []
        serving = []
        for path, owner in places.items():
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            listener.listen(256)
            self.listeners.append(listener)
            serving.append(Control(listener, verbs, owner, lambda fields: self.journal.append(list(fields))).run())
        self._task = self.loop.create_task(_all(serving))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self._task)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                self.loop.run_until_complete(task)
        self.loop.close()

    def stop(self) -> None:
        """Ends the loop, the thread and the sockets."""
        self.loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
        for listener in self.listeners:
            listener.close()


async def _all(serving: list[Coroutine[None, None, None]]) -> None:
    await asyncio.gather(*serving)
