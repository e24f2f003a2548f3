"""What systemd does with the units of apps, in memory: its jobs, the programs, and the requests at the sockets.

It goes on without the daemon, on the clock of its event loop, and records in :attr:`WorldUnits.faults` what must never
happen. A request is lost without a fault only where the machine, the app or the user caused it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from flyted.contract.names import Replica
from flyted.plan.leaving import DRAIN_S
from flyted.plan.units import STARTS, STARTS_IN_S, STOP_S
from tests.daemon.world_gpus import WorldGpus
from tests.daemon.world_pairs import Pair, Request

AT_REST = ("inactive", "failed")
RESTART_S = 1.0


class WorldUnits:
    """The units of apps. ``job_s``: how long a job of systemd takes; ``dying``: apps that end at each start."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
        self.loop, self.folder = loop, folder
        self.pairs: dict[Replica, Pair] = {}
        self.gpus = WorldGpus(loop, self._users)
        self.job_s = 0.01
        self.start_s = 0.5
        self.dying: set[str] = set()
        self.dying_servers: set[str] = set()
        self.computes = True
        self.line: list[tuple[Pair, int]] = []  # the starts that wait for a GPU, in the order in which they asked
        self.waited: dict[str, float] = {}  # when a start of an app last waited for one
        self.faults: list[str] = []
        self.gone: dict[Replica, float] = {}  # when pairs ended by themselves
        self.heard: Callable[[str], None] = lambda _unit: None
        self.credential: Callable[[str, str], Awaitable[bytes]] | None = None
        self.excused: Callable[[Replica], bool] = lambda _replica: False
        self.finished: Callable[[Replica, Request], None] = lambda _replica, _request: None
        self.refuses: Callable[[Replica], bool] = lambda _replica: False
        self.made: Callable[[Replica], None] = lambda _replica: None
        self.warm: Callable[[Replica], bool] = lambda _replica: False
        self.unrouted_s: Callable[[Replica], float] = lambda _replica: 0.0
        self.own: set[asyncio.Task[Any]] = set()
        self._up = asyncio.Event()

    @property
    def now(self) -> float:
        """Seconds of the machine's clock."""
        return self.loop.time()

    def fault(self, text: str) -> None:
        """Record what must not happen."""
        self.faults.append(f"at {self.now - 1000:.2f}: {text}")

    def tell(self, unit: str) -> None:
        """Tell the daemon a moment later that a unit changed."""
        self.loop.call_soon(lambda: self.heard(unit))

    def answers(self, credential: Callable[[str, str], Awaitable[bytes]] | None) -> None:
        """Say who answers the credential socket from now on; PID 1 holds it meanwhile."""
        self.credential = credential
        (self._up.set if credential else self._up.clear)()

    def cpu_s(self, pair: Pair) -> float:
        """The CPU time of a service: its program computes for as long as it has requests, if programs do."""
        return pair.cpu_s + (self.now - pair.busy_since if pair.held and self.computes else 0.0)

    # the socket

    def make(self, replica: Replica, service: Mapping[str, Any]) -> None:
        """Make a pair, in place of one that is there: systemd's ``StartTransientUnit`` evicts what is loaded."""
        before = self.pairs.get(replica)
        if before is not None and before.service not in AT_REST:
            self.fault(f"{replica.server} is made anew while it is {before.service}")
        if before is not None:
            self._drop(before, "its pair was made anew")
        gpu_asked = any(name == "gpu" for name, _path in service["LoadCredential"])
        self.pairs[replica] = Pair(replica, service["Restart"] == "always", gpu_asked)
        self.made(replica)
        self.gone.pop(replica, None)
        self.tell(replica.socket)
        self.tell(replica.service)

    def stop_socket(self, pair: Pair) -> None:
        """The socket does not listen any more; systemd forgets a service that it kept."""
        pair.socket = ""
        for request in pair.queue:
            self._lose(pair, request, "its socket was stopped")
        pair.queue.clear()
        self.tell(pair.replica.socket)
        self._collect(pair)

    def accept(self, pair: Pair, request: Request) -> None:
        """A connection: the running program takes it, or systemd starts one."""
        if pair.service == "active":
            self._take(pair, request)
        else:
            pair.queue.append(request)
            self._wake(pair)

    def _take(self, pair: Pair, request: Request) -> None:
        if not pair.held:
            pair.busy_since = self.now
        pair.held.append(request)
        self.loop.call_later(request.takes_s, self._answered, pair, request)

    def _answered(self, pair: Pair, request: Request) -> None:
        if request.end or request not in pair.held:
            return
        self._end(pair, request, "answered")

    def close(self, pair: Pair) -> None:
        """The program closes its connections without an answer, and goes on."""
        for request in list(pair.held):
            self._end(pair, request, "502")

    def _end(self, pair: Pair, request: Request, end: str) -> None:
        request.end = end
        pair.cpu_s += self.now - pair.busy_since if self.computes else 0.0
        pair.busy_since = self.now
        pair.held.remove(request)
        if not request.by_itself or end != "answered":
            pair.last_end = self.now
        self.finished(pair.replica, request)
        self.unheld(pair)

    def unheld(self, pair: Pair) -> None:
        """Requests of a pair went without an answer: a stop that waited for them goes on."""
        if pair.service == "deactivating" and not pair.held:
            self.loop.call_later(self.job_s, self._stopped, pair, pair.run)

    def _lose(self, pair: Pair, request: Request, why: str) -> None:
        if request.end:
            return
        request.end = why
        self.finished(pair.replica, request)
        drained = pair.drained or self._is_drained(pair)
        if not (drained or pair.failed_at >= request.came or self.excused(pair.replica)):
            self.fault(f"a request of {self.now - request.came:.2f} s to {pair.replica.server} is lost: {why}")

    def _is_drained(self, pair: Pair) -> bool:
        return self.unrouted_s(pair.replica) >= DRAIN_S - 0.01

    # the service

    def start(self, pair: Pair) -> asyncio.Future[str]:
        """Begin a job, or join the one that there is."""
        job: asyncio.Future[str] = self.loop.create_future()
        pair.starts.append(job)
        if pair.service == "active":
            self._resolve(pair.starts, "done")
        elif pair.service == "deactivating":
            self._resolve(pair.stops, "canceled")
            pair.again = True
        elif pair.service in AT_REST:
            self._launch(pair)
        return job

    def stop(self, pair: Pair) -> asyncio.Future[str]:
        """Begin a job, or join the one that there is: launch finishes the requests in flight."""
        job: asyncio.Future[str] = self.loop.create_future()
        pair.stops.append(job)
        pair.again = False
        if pair.service in AT_REST:
            pair.service, pair.began = "inactive", []
            self._resolve(pair.stops, "done")
        elif pair.service != "deactivating":
            self._resolve(pair.starts, "canceled")
            pair.run += 1
            pair.drained = self._is_drained(pair)
            self._set(pair, "deactivating")
            if not pair.held:
                self.loop.call_later(self.job_s, self._stopped, pair, pair.run)
            else:
                self.loop.call_later(STOP_S, self._cut, pair, pair.run)
        return job

    def _cut(self, pair: Pair, run: int) -> None:
        if pair.run == run and pair.service == "deactivating":
            for request in pair.held:
                self._lose(pair, request, "a stop cut it short")
            pair.held.clear()
            self._stopped(pair, run)

    def _stopped(self, pair: Pair, run: int) -> None:
        if pair.run != run or pair.service != "deactivating":
            return
        self._rest(pair, "inactive")
        pair.began = []
        self._resolve(pair.stops, "done")
        self._go_on(pair)

    def fail(self, pair: Pair, *, restarts: bool = True) -> None:
        """The program ends by itself, or at its start."""
        pair.failed_at = self.now
        was = pair.service
        for request in pair.held:
            self._lose(pair, request, "the app crashed")
        pair.held.clear()
        pair.run += 1
        self._rest(pair, "failed")
        self._resolve(pair.starts, "failed")
        self._resolve(pair.stops, "done")
        if any(each is pair for each, _run in self.line):
            self.waited[pair.replica.app_id] = self.now
        if pair.restarts and restarts and was != "deactivating" and pair.socket:
            self._set(pair, "activating")
            self.loop.call_later(RESTART_S, self._restart, pair, pair.run)
        else:
            self._go_on(pair)

    def _restart(self, pair: Pair, run: int) -> None:
        if pair.run == run and pair.service == "activating":
            self._launch(pair)

    def _go_on(self, pair: Pair) -> None:
        if pair.again:
            pair.again = False
            self._launch(pair)
        elif pair.socket:
            self._wake(pair)
        self._collect(pair)

    def _wake(self, pair: Pair) -> None:
        if pair.socket == "active" and pair.queue and pair.service in AT_REST:
            self._launch(pair)

    def _launch(self, pair: Pair) -> None:
        pair.began = [moment for moment in pair.began if self.now - moment < STARTS_IN_S]
        if len(pair.began) >= STARTS:
            self._give_up(pair)
            return
        pair.began.append(self.now)
        pair.drained = False
        pair.run += 1
        self._set(pair, "activating")
        document = self.folder / "starts" / pair.replica.service
        if not document.exists():
            self.fault(f"{pair.replica.service} starts without its start document")
            self.fail(pair, restarts=False)
            return
        dies = json.loads(document.read_bytes())["environment"].get("DIES") == "yes"
        if pair.needs_gpu:
            task = self.loop.create_task(self._ask(pair, pair.run, dies=dies))
            self.own.add(task)
            task.add_done_callback(self.own.discard)
        else:
            self.loop.call_later(self.start_s, self._ready, pair, pair.run, dies)

    def _give_up(self, pair: Pair) -> None:
        """systemd's limit of starts: the service fails, and the socket with it."""
        self.fail(pair, restarts=False) if pair.service not in AT_REST else None
        pair.failed_at = self.now
        self._resolve(pair.starts, "failed")
        self.gone[pair.replica] = self.now
        self._drop(pair, "systemd gave the app up")

    async def _ask(self, pair: Pair, run: int, *, dies: bool) -> None:
        """PID 1 asks for the lease; a daemon that ends in mid-answer leaves the credential empty."""
        while self.credential is None:
            await self._up.wait()
        self.line.append((pair, run))
        answer = await self.credential(pair.replica.service, "gpu")
        earlier = self.waiting(until=(pair, run))
        self.line.remove((pair, run))
        self.waited[pair.replica.app_id] = self.now
        if pair.run != run or pair.service != "activating":
            return
        granted = json.loads(answer or b"{}").get("devices", [])
        if granted and earlier:
            self.fault(f"{pair.replica.server} is granted the GPU before {', '.join(earlier)}")
        if not granted:
            self.fail(pair, restarts=False)
            return
        others = [each.replica.server for each in self.pairs.values() if set(each.devices) & set(granted)]
        if others:
            self.fault(f"{pair.replica.server} is granted the GPU that {', '.join(others)} uses")
        if not pair.opened:
            self.fault(f"{pair.replica.server} has a lease, and its GPU is not opened to it")
        pair.devices = tuple(granted)
        self.loop.call_later(self.start_s, self._ready, pair, run, dies)

    def waiting(self, until: tuple[Pair, int] | None = None) -> list[str]:
        """Who waits for a GPU, or who has waited for longer than one who does."""
        before = self.line[: self.line.index(until)] if until else self.line
        return [pair.replica.server for pair, run in before if pair.run == run and pair.service == "activating"]

    def _ready(self, pair: Pair, run: int, dies: bool) -> None:
        if pair.run != run or pair.service != "activating":
            return
        if dies or pair.replica.app_id in self.dying or pair.replica.server in self.dying_servers:
            self.fail(pair)
            return
        self._set(pair, "active")
        pair.up_at = self.now
        self._resolve(pair.starts, "done")
        waiting, pair.queue = pair.queue, []
        for request in waiting:
            self._take(pair, request)

    def crash(self, pair: Pair) -> None:
        """The program of a running app ends."""
        if pair.service in ("active", "activating", "deactivating"):
            self.fail(pair)

    # what both need

    def _users(self, uuid: str) -> list[str]:
        return [pair.replica.service for pair in self.pairs.values() if uuid in pair.devices]

    def _set(self, pair: Pair, active: str) -> None:
        pair.service = active
        self.tell(pair.replica.service)

    def _rest(self, pair: Pair, active: str) -> None:
        for uuid in pair.devices:
            self.gpus.freed(uuid)
        pair.devices = ()
        pair.opened = ()
        self._set(pair, active)

    def _drop(self, pair: Pair, why: str) -> None:
        for request in [*pair.queue, *pair.held]:
            self._lose(pair, request, why)
        pair.queue, pair.held = [], []
        pair.socket, pair.run = "", pair.run + 1
        if pair.service not in AT_REST:
            self._rest(pair, "inactive")
        self._resolve(pair.starts, "canceled")
        self._resolve(pair.stops, "done")
        self.tell(pair.replica.socket)
        self._collect(pair)

    def _collect(self, pair: Pair) -> None:
        if not pair.socket and pair.service in AT_REST and self.pairs.get(pair.replica) is pair:
            del self.pairs[pair.replica]
            self.tell(pair.replica.service)

    @staticmethod
    def _resolve(jobs: list[asyncio.Future[str]], result: str) -> None:
        for job in jobs:
            if not job.done():
                job.set_result(result)
        jobs.clear()
