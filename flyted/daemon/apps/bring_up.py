"""Brings up a revision that is deployed: starts its replicas beside the old one's, and records that it serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from flyted.base import tasks
from flyted.contract.answers.events import NOTE, START, STEP, Progress
from flyted.contract.errors import DeployFailed, FlytedError, HostFailure
from flyted.contract.names import AppKey, Replica
from flyted.daemon.api.verbs import Emit
from flyted.daemon.apps.locks import DeployLocks
from flyted.daemon.execute import Execute
from flyted.daemon.explain import Explain
from flyted.daemon.look import Look
from flyted.daemon.loop import Loop
from flyted.host.store import Store
from flyted.plan.reasons import failure
from flyted.plan.replicas import to_begin_with
from flyted.plan.states import notes_of, waits_for

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BringUp:
    """The start of revisions. Until one serves, its replicas are the loop's candidates, which it leaves alone."""

    loop: Loop
    look: Look
    execute: Execute
    explain: Explain
    store: Store
    locks: DeployLocks

    async def bring_up(self, app: AppKey, number: int, emit: Emit) -> None:
        """Start a revision, and record that it serves and what its service says that the user should know.

        Its first replica has to start; then as many others start as it needs to take over from the revision that
        serves, if they can. Raises :class:`DeployFailed` when it does not start. Whatever goes wrong, what was started
        is stopped, and the revision failed.
        """
        replicas: tuple[Replica, ...] = (Replica(app.id, number),)
        self.loop.candidates.update(replicas)
        # now, so that the ingress says that the app starts: there is no unit yet whose change would ask for a pass
        self.loop.poke()
        try:
            replicas = to_begin_with(self.store.app(app.id), number, self.look.units_of(app.id))
            self.loop.candidates.update(replicas)
            await emit(Progress(START, f"starting {app} (revision {number})"))
            why = await self._start(replicas, emit)
        except asyncio.CancelledError:
            if self.locks.cancelled(app):  # else flyted ends, and its next start clears up
                await self._undo(replicas, "its deploy was cancelled")
            raise
        except Exception as error:
            await self._undo(replicas, _reason(error))
            raise
        else:
            if why:
                await self._undo(replicas, why)
                raise self._failed(replicas[0], why)
        finally:
            self.loop.candidates.difference_update(replicas)
            self.loop.poke()

    async def _start(self, replicas: tuple[Replica, ...], emit: Emit) -> str:
        """Start replicas and record that they serve; return why the first one did not start, "" if it did."""
        replica, *others = replicas
        await self.execute.start_pair(replica)
        said: dict[str, None] = {}
        telling = (
            tasks.begin(self._tell(replica, said, emit)),
            tasks.begin(self._tell_of_gpus(replica, emit)),
        )
        try:
            result = await self.execute.start_service(replica)
        finally:
            for task in telling:
                task.cancel()
        if result != "done":
            return await self._why(replica, result, emit)
        await _tell_new(said, self.look.status(replica), emit)
        if others:
            await emit(Progress(STEP, f"starting {len(others)} more replica{'s' * (len(others) > 1)}"))
            await self._start_others(others, emit)
        self.store.serve(replica.app_id, replica.revision, time.time(), tuple(said))
        return ""

    async def _start_others(self, replicas: Iterable[Replica], emit: Emit) -> None:
        """Start other replicas together.

        If one raises, which is a fault of ours, the starts of the others have ended before this raises the same: what
        was started can be stopped then.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for replica in replicas:
                    group.create_task(self._start_other(replica, emit))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _start_other(self, replica: Replica, emit: Emit) -> None:
        """Start another replica. One that does not start is left to the loop, which tries again: the app serves."""
        try:
            await self.execute.start_pair(replica)
            result = await self.execute.start_service(replica)
            why = await self.explain.why_failed(replica) if result != "done" else ""
        except FlytedError as error:
            why = error.message
        if why:
            await emit(Progress(NOTE, f"replica {replica.number} did not start: {why}"))

    async def _undo(self, replicas: Iterable[Replica], reason: str) -> None:
        """Record that a revision has failed, and take its units down.

        Failures are logged: the client is to get the reason why its app failed. A pass takes down units that are left.
        """
        first, *others = replicas
        try:
            self.store.fail(first.app_id, first.revision, reason, time.time())
        except FlytedError as error:
            log.error("%s stays pending until flyted starts again: %s", first.service, error.message)  # noqa: TRY400
        for replica in (first, *others):
            try:
                await self.execute.clear(replica)
            except FlytedError as error:
                log.error("%s", error.message)  # noqa: TRY400

    async def _tell(self, replica: Replica, said: dict[str, None], emit: Emit) -> None:
        """Report immediately why a start may fail, and other notes of the service: it may take minutes to fail."""
        async with contextlib.aclosing(self.look.statuses(replica)) as statuses:
            async for status in statuses:
                if why := waits_for(status):
                    await emit(Progress(NOTE, why))
                await _tell_new(said, status, emit)

    async def _tell_of_gpus(self, replica: Replica, emit: Emit) -> None:
        """Report what passes find about the replica's GPUs: it waits for them, has them, or has lost them."""
        async with contextlib.aclosing(self.loop.listeners.heard(lambda done: done.news.get(replica.service))) as news:
            async for text in news:
                await emit(Progress(STEP, text))

    async def _why(self, replica: Replica, result: str, emit: Emit) -> str:
        with contextlib.suppress(HostFailure):  # the reason says then that the journal cannot be read
            for line in await self.explain.last_lines(replica):
                await emit(line)
        reason = await self.explain.why_failed(replica)
        log.warning("deploy of %s failed (%s): %s", replica.app_id, result, reason)
        return reason

    def _failed(self, replica: Replica, reason: str) -> DeployFailed:
        app = self.store.app(replica.app_id)
        kept = f"; revision {app.serving} keeps serving" if app.serving else ""
        return failure(f"revision {replica.revision} of app '{app.key}' did not start", reason + kept, app.key.name)


def _reason(error: Exception) -> str:
    """Return why a revision failed; control.py logs what an error that is not in our tree says."""
    if isinstance(error, FlytedError):
        return error.message
    return f"internal error in flyted: {type(error).__name__}"


async def _tell_new(said: dict[str, None], status: str, emit: Emit) -> None:
    """Report the notes in a service's status that are new; ``said`` collects those that were reported."""
    for text in notes_of(status):
        if text not in said:
            said[text] = None
            await emit(Progress(NOTE, text))
