"""Puts idle apps to sleep: freezes or stops them, or has their engine sleep. The plan decides which, and when."""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import dataclass

from flyted.contract.errors import FlytedError, IngressDown
from flyted.contract.names import Replica, freezer_of
from flyted.daemon.effects import Effects
from flyted.daemon.gpus.inventory import GpuInventory
from flyted.daemon.ingress.kept import end_kept
from flyted.plan.actions import EngineSleep, Evict, Freeze, IdleAction, Sleep, Thaw
from flyted.plan.engines.sleep import ANSWER_S, answered, says_asleep
from flyted.plan.idle import Traffic

log = logging.getLogger(__name__)

JOB_S = 1.0
"""Seconds until an app is looked at again that systemd was about to stop."""


@dataclass(frozen=True)
class Idle:
    """Carries out the actions on apps that no request needs now."""

    machine: Effects
    gpus: GpuInventory

    async def do(self, action: IdleAction) -> None:
        """Carry out an action. Raises :class:`HostFailure`."""
        match action:
            case Sleep(replica, seen):
                await self._sleep(replica, seen)
            case Freeze(replica, seen):
                await self._freeze(replica, seen)
            case Thaw(replica):
                log.warning("thawing app %s, which was frozen while it had requests", replica.app_id)
                await self.machine.units.stop(freezer_of(replica))
            case EngineSleep(replica):
                await self._sleep_engine(replica)
            case Evict(replica, wanted_by, seen):
                await self._evict(replica, wanted_by, seen)

    async def _sleep(self, replica: Replica, seen: Traffic | None) -> None:
        await self.gpus.measure(replica.service)
        if await self._may_stop(replica, seen):
            log.info("stopping app %s until its next request", replica.app_id)
            await self.machine.units.stop(replica.service)

    async def _evict(self, replica: Replica, wanted_by: str, seen: Traffic) -> None:
        """Put an app to sleep unless a request has come since it was found idle.

        An error is logged, and does not mark this app as failed: it continues to serve. The start that waits for its
        GPU is decided again in the next pass.
        """
        await self.gpus.measure(replica.service)
        try:
            if await self._may_stop(replica, seen):
                log.info("stopping app %s, whose GPU goes to %s", replica.app_id, wanted_by)
                await self.machine.units.stop(replica.service)
        except FlytedError as error:
            log.error("%s", error.message)  # noqa: TRY400

    async def _freeze(self, replica: Replica, seen: Traffic) -> None:
        """Freeze an app, and thaw it again if a request has come since it was found idle.

        A request over a kept connection would wait in vain, so these are ended first. HAProxy counts a request before
        it sends it: one that the app got before it froze is seen now, and one that comes later waits in the app's
        socket, where the unit sees it.
        """
        await end_kept(self.machine, replica)
        match await self.machine.units.start_beside(freezer_of(replica)):
            case "done":
                if await self._is_idle(replica, seen):
                    log.info("app %s is frozen until its next request", replica.app_id)
                else:
                    await self.machine.units.stop(freezer_of(replica))
            case "canceled":  # it is being stopped by somebody, whose job shows only once it begins
                await asyncio.sleep(JOB_S)
            case _:
                log.warning("app %s does not freeze: stopping it", replica.app_id)
                await self._sleep(replica, seen)

    async def _sleep_engine(self, replica: Replica) -> None:
        """Put an app's engine to sleep, by a signal to launch: root does not connect to an app's program.

        An app that does not report in time whether its engine sleeps is stopped.
        """
        await self.gpus.measure(replica.service)
        before = self.machine.units.status(replica.service)
        if says_asleep(before):
            return
        done = await self.machine.units.ask_main(
            replica.service, signal.SIGUSR1, lambda status: answered(before, status), ANSWER_S
        )
        if done:
            log.info("app %s: %s", replica.app_id, self.machine.units.status(replica.service) or "it is stopped")
        else:
            log.warning("app %s did not report whether it sleeps: stopping it", replica.app_id)
            await end_kept(self.machine, replica)
            await self.machine.units.stop(replica.service)

    async def _may_stop(self, replica: Replica, seen: Traffic | None) -> bool:
        """End the kept connections, then report whether the app may stop: no request has come since it was seen idle.

        ``seen``: as in :class:`Sleep`; a stop in any case needs no second look.
        """
        await end_kept(self.machine, replica)
        if seen is None:
            return True
        return await self._is_idle(replica, seen)

    async def _is_idle(self, replica: Replica, seen: Traffic) -> bool:
        """Report whether HAProxy answers, and no request has come since an app was seen idle."""
        try:
            now = (await self.machine.ingress.stats([replica.server])).get(replica.server)
        except IngressDown:
            return False
        return now is not None and not now.busy and (now.process, now.counting) == (seen.process, seen.counting)
