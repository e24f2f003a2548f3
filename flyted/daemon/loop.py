"""Runs the daemon's loop, and owns what is remembered of pairs from one pass to the next.

A pass looks at the machine, lets ``plan`` decide, and acts. Then the loop sleeps until something happens or time alone
changes the answer. With nothing running it never wakes.

Slow work (stopping, starting by hand) runs beside the loop, and its end asks for another pass. All work on a pair, by
a pass or by a verb, begins in :meth:`Loop._begin`, and only while no other work on that pair runs. A pass awaits
much between its look and its actions, and work that began meanwhile goes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from flyted.contract.errors import FlytedError
from flyted.contract.names import Replica
from flyted.daemon.execute import Execute
from flyted.daemon.explain import Explain
from flyted.daemon.failures import Failures
from flyted.daemon.gpus.leases import GpuLeases
from flyted.daemon.listeners import Listeners, Pass
from flyted.daemon.look import Look
from flyted.daemon.remembered import Remembered
from flyted.daemon.upkeep import Upkeep
from flyted.plan.actions import STARTS, FailPair, PairAction, StartPair, UnitAction, UpkeepAction
from flyted.plan.facts import Facts, Failure
from flyted.plan.gpus.queue import LOOK_S
from flyted.plan.groups import Group, Groups
from flyted.plan.reconcile import Plan, reconcile

log = logging.getLogger(__name__)

RETRY_S = 5.0  # after a pass that failed: systemd or HAProxy refused something
T = TypeVar("T")


class Loop:
    """One pass at a time. Everything else asks for a pass and waits for it. ``poked``: set by all who ask for one."""

    def __init__(
        self, look: Look, execute: Execute, explain: Explain, gpus: GpuLeases, upkeep: Upkeep, base_domain: str,
        poked: asyncio.Event,
    ) -> None:  # fmt: skip
        self._look = look
        self._execute = execute
        self._explain = explain
        self._gpus = gpus
        self._upkeep = upkeep
        self._base_domain = base_domain
        self._poked = poked
        self.listeners = Listeners()
        self._next_pass_at: float | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._tasks: dict[Replica, asyncio.Task[Any]] = {}
        self._touched = set[str]()  # the servers of replicas on which work has begun since the last look
        self._remembered = Remembered()
        self._groups = Groups()
        self._failures = Failures()
        self.candidates: set[Replica] = set()

    @property
    def failures(self) -> Mapping[Replica, Failure]:
        """The pairs that failed and are tried again later."""
        return self._failures.all()

    def more_load(self) -> None:
        """Request a pass: an app has more requests than its least replicas are for."""
        self._remembered.look_again()
        self.poke()

    def poke(self) -> None:
        """Request a pass."""
        self._poked.set()

    def unit_changed(self, unit: str) -> None:
        """Request a pass if the unit's change may change the plan; "": changes of any unit may have been missed."""
        if self._look.heard(unit) or self._upkeep.heard(unit):
            self.poke()

    async def settle(self) -> None:
        """Wait until a whole pass that begins after this call is over. Raises what made that pass fail."""
        self.poke()
        await self.changed()

    async def settle_at_start(self) -> None:
        """Wait for the first pass; if it fails, log why.

        It is tried again later: a running daemon can report what is wrong.
        """
        try:
            await self.settle()
        except FlytedError as error:
            log.error("the first pass failed: %s", error.message)  # noqa: TRY400

    async def find_outdated(self) -> None:
        """Find the pairs that would be defined differently now, and re-create those that sleep."""
        await self._execute.find_outdated()
        self.poke()

    async def changed(self) -> None:
        """Wait for the next pass without asking for one. Raises what made that pass fail."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        await done

    async def run(self) -> None:
        """Run passes until cancelled."""
        self._upkeep.start()
        while True:
            await self._sleep()
            self._poked.clear()
            waiting, self._waiting = self._waiting, []
            try:
                await self.one_pass()
            except FlytedError as error:
                log.error("%s", error.message)  # noqa: TRY400  the message says it; a traceback would not help
                self._next_pass_at = _now() + self._retry_s()
                for future in itertools.filterfalse(asyncio.Future.done, waiting):  # a caller may have left
                    future.set_exception(error)
            else:
                for future in itertools.filterfalse(asyncio.Future.done, waiting):
                    future.set_result(None)

    def _retry_s(self) -> float:
        return LOOK_S if self._gpus.asked else RETRY_S

    async def _sleep(self) -> None:
        if self._next_pass_at is None:
            await self._poked.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._next_pass_at):
                await self._poked.wait()

    async def facts(self, app_id: str = "") -> Facts:
        """Return the current state of the machine and what the loop remembers; with an app's id, its units alone.

        Raises :class:`HostFailure` when systemd does not answer.
        """
        # before the units: what is known of GPUs is not newer, and work that ends meanwhile does not show in them yet
        gpu, busy, candidates = self._gpus.facts(), frozenset(self._tasks), frozenset(self.candidates)
        seen = await self._look.facts(app_id)
        return dataclasses.replace(
            self._remembered.added(seen),
            candidates=candidates,
            numbers=self._execute.callers.numbers,
            failures=self.failures,
            outdated=frozenset(self._execute.outdated),
            busy=busy | self._tasks.keys(),
            gpu=gpu,
        )

    async def one_pass(self) -> None:
        """Look, decide and act once. Raises :class:`HostFailure` when the machine refused something."""
        # _learn and reconcile must see the same facts: with a look each, a pair that fails between the two looks would
        # be re-created immediately, as if it had never existed: its failure is not recorded, and it does not back off
        documents = dict(self._execute.documents)
        self._touched = set()
        try:
            facts = await self.facts()
        except FlytedError as error:
            self._upkeep.refuse(error)
            raise
        groups = self._groups.of(facts.apps)
        self._learn(facts, groups)
        facts = dataclasses.replace(
            facts, failures=self.failures, busy=facts.busy | self._tasks.keys(), upkeep=self._upkeep.facts()
        )
        self._forget_ended(facts, documents)
        now = _now()
        plan = reconcile(facts, self._remembered.clocks, self._base_domain, now, groups)
        self._remembered.take(plan)
        self._failures.see(facts, self._remembered.extra)
        self._next_pass_at = plan.next_pass_at
        self._upkeep.wake_at(plan.due)
        self.listeners.tell(Pass(facts, plan, self._gpus.carry_out(facts, plan.gpu)))
        self._do_at_once(plan)
        await self._start_pairs(plan)
        applied = await self._execute.apply_ingress(plan, facts.ingress, self._touched)
        for action in plan.actions:
            if isinstance(action, PairAction) and not isinstance(action, (StartPair, FailPair)):
                self._beside(action)
        if applied is not None and not applied.other_rules:
            self._remembered.told()
            needed = self.candidates | self._tasks.keys()
            self._execute.callers.settle(plan.ingress.callers, self._execute.documents, documents, needed, facts)
        else:
            self._remembered.not_told(plan)
        if applied is None:  # it still sends requests to the replaced revisions: they stay
            self._remembered.keep({app.key.id for app in facts.apps if app.serving_replicas})
            self._next_pass_at = now + self._retry_s()
        elif applied.other_rules:  # another HAProxy than the one that the look found
            self.poke()
        elif applied.draining:
            self._next_pass_at = min(self._next_pass_at or now + RETRY_S, now + RETRY_S)

    def _forget_ended(self, facts: Facts, before: Mapping[Replica, int]) -> None:
        """Remove the start documents of replicas whose units are gone although flyted did not stop them.

        They ended by themselves, or never came. ``before``: the documents before the look that gave ``facts``.
        """
        there = facts.index.facts
        gone = [r for r in before if r.service not in there and r.socket not in there]
        if not gone:
            return  # as in nearly every pass
        needed = {r for app in facts.apps for r in app.serving_replicas} | facts.candidates | facts.busy
        needed.update(self._remembered.extra.values())
        for replica in gone:
            if replica not in needed and self._execute.documents.get(replica) == before[replica]:  # else re-created
                self._execute.forget(replica)

    def _do_at_once(self, plan: Plan) -> None:
        """Begin the actions that depend on the exact facts: nothing has been awaited since the plan was made."""
        for action in plan.actions:
            if isinstance(action, UpkeepAction):
                self._upkeep.begin(action)
        for action in plan.actions:
            if isinstance(action, UnitAction):
                self._execute.at_once(action)
            elif isinstance(action, FailPair):
                self._failed(action.replica, action.reason)
                self._beside(action)

    async def _start_pairs(self, plan: Plan) -> None:
        """Start pairs, before the ingress sends requests to them. One that fails backs off; the others continue."""
        for action in plan.actions:
            if not isinstance(action, StartPair) or action.replica in self._tasks:
                continue
            try:
                await self._begin(action.replica, self._execute.do(action))
                self._failures.came_up(action.replica)
            except FlytedError as error:  # also one of this app's own: another version took what it asks for
                self._failed(action.replica, error.message)
                self.poke()

    def _beside(self, action: PairAction) -> None:
        if action.replica not in self._tasks:  # else other work began since the look: its end asks for a pass
            self._begin(action.replica, self._do(action))

    async def _do(self, action: PairAction) -> None:
        try:
            await self._execute.do(action)
        except FlytedError as error:
            log.error("%s", error.message)  # noqa: TRY400
            if isinstance(action, STARTS):
                self._failed(action.replica, error.message)
            else:
                await asyncio.sleep(RETRY_S)  # the next pass would plan the same

    def _begin(self, replica: Replica, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin work on a pair on which no other work runs; its end, of whatever kind, asks for a pass.

        A ``RuntimeError`` is a fault of ours: other work runs.
        """
        if replica in self._tasks:
            work.close()
            raise RuntimeError(f"work on {replica.server} began while other work on it runs")
        task = asyncio.create_task(work)
        self._tasks[replica] = task
        self._touched.add(replica.server)
        task.add_done_callback(lambda _task: self._ended(replica))  # added first: runs before those who await the task
        return task

    def _ended(self, replica: Replica) -> None:
        del self._tasks[replica]
        self.poke()

    async def at_rest(self, replica: Replica) -> None:
        """Wait until no work on a replica is running."""
        while (task := self._tasks.get(replica)) is not None:
            await asyncio.wait([task])

    async def exclusively(self, replica: Replica, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for other work on a replica to end, then do ``work`` while the loop leaves the replica alone.

        Returns what ``work`` returns, and raises what it raises.
        """
        await self.at_rest(replica)
        return await self._begin(replica, work())

    def _learn(self, facts: Facts, groups: Sequence[Group]) -> None:
        """Learn which pairs are up; begin to take down each that was up and is gone without our doing."""
        wanted = [*(group.replicas for group in groups), self._remembered.extra]
        for replica in self._failures.learn(facts, wanted, facts.busy | self._tasks.keys()):
            self._failed(replica, "")  # immediately: until the reason is known, visitors get "cannot serve"
            self._begin(replica, self._fell(replica))

    async def _fell(self, replica: Replica) -> None:
        """Say why a pair failed by itself, and take down what is left of it; it is tried again later.

        This is beside the pass: the journal may take seconds, and other apps do not wait for it.
        """
        try:
            reason = await self._explain.why_failed(replica)
            log.warning("app %s failed: %s", replica.app_id, reason)
            self._failures.explain(replica, reason, _now())
            await self._execute.clear(replica)
        except FlytedError as error:
            log.error("%s", error.message)  # noqa: TRY400

    def _failed(self, replica: Replica, reason: str) -> None:
        self._failures.add(replica, reason, _now())

    def give_up_extra(self, app_id: str) -> tuple[Replica, ...]:
        """Let an app have its least replicas only, until its load needs more again; return the others."""
        return self._remembered.give_up_extra(app_id)

    def forgive(self, replica: Replica) -> None:
        """Forget earlier failures of a pair: its operator wants a new try now."""
        self._failures.forgive(replica)


def _now() -> float:
    """Return the time of the loop's clock, in seconds: it is monotonic, and the loop's timers use it."""
    return asyncio.get_running_loop().time()
