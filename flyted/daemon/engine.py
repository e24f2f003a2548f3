"""The loop: the only owner of state.

It looks at the machine, lets ``plan`` decide, acts, and sleeps until something happens or time alone changes the
answer. With nothing running it never wakes.

Slow work (stopping, starting by hand) runs beside the loop and comes back as one more poke. Whoever acts on a pair, a
pass or a verb, does so in :meth:`Engine._begin`, and only where nobody does already: a pass awaits much between its
look and its actions, and what began meanwhile goes first.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from flyted.contract.errors import FlytedError, HostFailure
from flyted.contract.names import Replica
from flyted.daemon.act import Act
from flyted.plan.actions import Action, StartPair
from flyted.plan.facts import Facts, Failure
from flyted.plan.gpu_facts import GpuFacts
from flyted.plan.idle import Clock, idle_s
from flyted.plan.overdue import ending
from flyted.plan.reconcile import Plan, reconcile, serving_replica

log = logging.getLogger(__name__)

RETRY_S = 5.0  # after a pass that failed: systemd or HAProxy said no
_BACKOFF_S = (2.0, 10.0, 60.0, 300.0)


class Engine:
    """One pass at a time; everything else asks for a pass and waits for it."""

    def __init__(self, act: Act, base_domain: str) -> None:
        self._act = act
        self._base_domain = base_domain
        self._poked = asyncio.Event()
        self._look_at: float | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._tasks: dict[Replica, asyncio.Task[None]] = {}
        self._clocks: dict[str, Clock] = {}
        self._leaving: dict[Replica, float] = {}
        self._ending: dict[str, float] = {}
        self._up: set[Replica] = set()  # pairs seen alive: one that vanishes from here has failed
        self.failures: dict[Replica, Failure] = {}
        self.candidates: set[Replica] = set()
        self.gpu_facts: Callable[[], GpuFacts] = GpuFacts
        self.on_pass: Callable[[Facts], None] = lambda _facts: None  # hears of every look at the machine

    def poke(self) -> None:
        """Asks for a pass soon."""
        self._poked.set()

    def unit_changed(self, unit: str) -> None:
        """Asks for a pass if it could decide anything anew; "": changes of any unit may have been missed."""
        if self._act.heard(unit):
            self.poke()

    async def settle(self) -> None:
        """Returns when a whole pass that began after this call is over. Raises what made that pass fail."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self.poke()
        await done

    async def settle_at_start(self) -> None:
        """The first pass; a failure is logged and tried again later: a daemon that runs can tell what is wrong."""
        try:
            await self.settle()
        except FlytedError as error:
            log.error("the first pass failed: %s", error.message)  # noqa: TRY400

    async def changed(self) -> None:
        """Returns after the next pass that something else than this call brings about."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        await done

    async def run(self) -> None:
        """Runs passes for ever."""
        while True:
            await self._sleep()
            self._poked.clear()
            waiting, self._waiting = self._waiting, []
            try:
                await self.one_pass()
            except FlytedError as error:
                log.error("%s", error.message)  # noqa: TRY400  the message says it; a traceback would not help
                self._look_at = _now() + RETRY_S
                for future in filter(_open, waiting):
                    future.set_exception(error)
            else:
                for future in filter(_open, waiting):
                    future.set_result(None)

    async def _sleep(self) -> None:
        if self._look_at is None:
            await self._poked.wait()
            return
        try:
            async with asyncio.timeout_at(self._look_at):
                await self._poked.wait()
        except TimeoutError:
            pass

    async def facts(self, app_id: str = "") -> Facts:
        """What the machine looks like right now, and what this loop knows; with an app's id, its units alone."""
        units, traffic = await self._act.observe(app_id)
        return Facts(
            apps=self._act.apps(),
            units=units,
            traffic=traffic,
            candidates=frozenset(self.candidates),
            leaving=dict(self._leaving),
            failures=dict(self.failures),
            outdated=frozenset(self._act.outdated),
            busy=frozenset(self._tasks),
            gpu=self.gpu_facts(),
            start_s=self._act.start_timeout_s,
            gpu_wait_s=self._act.gpu_wait_s,
        )

    async def one_pass(self) -> None:
        """Looks, decides, acts once. Raises :class:`HostFailure` when the machine refused something."""
        # one look for both: what fails between two looks would be made anew as if it had never been there
        facts = await self.facts()
        self.on_pass(facts)
        await self._learn(facts)
        facts = dataclasses.replace(facts, failures=dict(self.failures), busy=facts.busy | self._tasks.keys())
        now = _now()
        plan = reconcile(facts, self._clocks, self._base_domain, now)
        self._leaving = {replica: self._leaving.get(replica, now) for replica in plan.leaving}
        self._clocks = dict(plan.clocks)
        self._look_at = plan.look_at
        self._kill_overdue(facts, now)
        await self._start_pairs(plan)
        ingress_up = await self._act.apply_ingress(plan.ingress)
        for action in plan.actions:
            if not isinstance(action, StartPair):
                self._beside(action)
        if not ingress_up:
            self._look_at = min(self._look_at or now + RETRY_S, now + RETRY_S)

    def _kill_overdue(self, facts: Facts, now: float) -> None:
        found = ending(facts.units, self._ending, now)
        self._ending = found.since
        for unit in found.kill:
            log.warning("%s does not end: it is killed", unit)
            self._act.units.kill(unit)
        if found.look_at is not None:
            self._look_at = min(self._look_at or found.look_at, found.look_at)

    async def _start_pairs(self, plan: Plan) -> None:
        """Before the ingress sends anybody there. One that fails backs off; the others go on."""
        for action in plan.actions:
            if not isinstance(action, StartPair) or action.replica in self._tasks:
                continue
            try:
                await self._begin(action.replica, self._act.do(action))
                self._up.add(action.replica)
            except HostFailure as error:
                self._failed(action.replica, error.message)
                self.poke()

    def _beside(self, action: Action) -> None:
        if action.replica not in self._tasks:  # else somebody came first since the look: the end of that is a poke
            self._begin(action.replica, self._do(action))

    async def _do(self, action: Action) -> None:
        try:
            await self._act.do(action)
        except FlytedError as error:
            log.error("%s", error.message)  # noqa: TRY400
            self._failed(action.replica, error.message)

    def _begin(self, replica: Replica, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begins work on a pair on which nobody works; its end, of whatever kind, asks for a pass."""
        task = asyncio.create_task(work)
        self._tasks[replica] = task
        task.add_done_callback(lambda _task: self._ended(replica))  # before all who wait for it hear of it
        return task

    def _ended(self, replica: Replica) -> None:
        del self._tasks[replica]
        self.poke()

    async def at_rest(self, replica: Replica) -> None:
        """Returns when nothing is being done to a replica."""
        while (task := self._tasks.get(replica)) is not None:
            await asyncio.wait([task])

    async def exclusively(self, replica: Replica, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Does ``work`` on a replica while the loop leaves it alone; waits for what is being done to it before."""
        await self.at_rest(replica)
        await self._begin(replica, work())

    async def _learn(self, facts: Facts) -> None:
        """A pair that served and is gone without our doing has failed: find out why, once."""
        wanted = {r for app in facts.apps if (r := serving_replica(app)) is not None}
        for replica in list(self._up - wanted):
            self._up.discard(replica)
        for replica in list(self.failures):
            if replica not in wanted:
                del self.failures[replica]
        for replica in wanted - facts.busy:
            socket, service = facts.units.get(replica.socket), facts.units.get(replica.service)
            if socket is not None and socket.active == "active":
                self._up.add(replica)
                if service is not None and service.active == "active":
                    self.failures.pop(replica, None)
            elif replica in self._up:
                await self._fell(replica)

    async def _fell(self, replica: Replica) -> None:
        """Takes down what is left of a pair that failed by itself, and tries again later."""
        reason = await self._act.why_failed(replica)
        if replica in self._tasks:
            return  # somebody acts on it since: the pass after that looks again
        self._up.discard(replica)
        log.warning("app %s failed: %s", replica.app_id, reason)
        self._failed(replica, reason)
        await self._begin(replica, self._act.clear(replica))

    def idle(self, facts: Facts) -> dict[Replica, float]:
        """Seconds for which each app that runs, and that may sleep, has been idle; busy ones are left out."""
        now, found = _now(), {}
        for app in facts.apps:
            replica = serving_replica(app)
            clock = self._clocks.get(replica.server) if replica else None
            traffic = facts.traffic.get(replica.server) if replica else None
            if replica is None or clock is None or traffic is None or replica in facts.busy:
                continue
            seconds = idle_s(clock, traffic, now)
            if seconds is not None:
                found[replica] = seconds
        return found

    async def give_up(self, replica: Replica, reason: str) -> None:
        """Takes a pair down that cannot run now: the ingress says why, and there is another try later.

        A deploy tells its own client, and clears up.
        """
        if replica in self.candidates:
            return
        self._up.discard(replica)
        self._failed(replica, reason)
        await self.exclusively(replica, lambda: self._act.clear(replica))

    def _failed(self, replica: Replica, reason: str) -> None:
        before = self.failures.get(replica)
        count = before.count + 1 if before else 1
        pause = _BACKOFF_S[min(count, len(_BACKOFF_S)) - 1]
        self.failures[replica] = Failure(count, _now() + pause, reason)

    def forgive(self, replica: Replica) -> None:
        """Forgets an earlier failure: the operator wants a new try now."""
        self.failures.pop(replica, None)


def _now() -> float:
    """The loop's clock: monotonic, and the one that its timers go by."""
    return asyncio.get_running_loop().time()


def _open(future: asyncio.Future[None]) -> bool:
    return not future.done()  # its caller may have left
