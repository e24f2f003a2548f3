"""HAProxy in memory: it routes requests by what it was told last, counts them as the real one does, and may go."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import floor

from flyted.contract.names import Replica, host_of
from flyted.plan.idle import Traffic
from flyted.plan.ingress.config import structure
from flyted.plan.ingress.ports import INGRESS_SOCKET, INGRESS_UNIT
from flyted.plan.ingress.state import RATE, IngressState, Listen
from tests.daemon.world import World
from tests.daemon.world_pairs import Request
from tests.values import DOMAIN

REFUSED = "no socket listens"
STOP_S = 15.0
"""Seconds that its unit may take to stop (units/flyted-ingress.service)."""


@dataclass
class Counters:
    """Of one server, since it was added to this process."""

    in_flight: int = 0
    started: int = 0
    answered: int = 0
    last_start: float | None = None
    longest: float = 0.0
    uncounted: int = 0


class WorldIngress:
    """One HAProxy. ``hangs``: it serves, and does not answer the daemon; ``refuses``: it takes no certificate.

    ``certificates``: those that it was told; ``uses``: token's digest → time of its last use.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.files = IngressState()
        self.state = IngressState()
        self.counters: dict[str, Counters] = {}
        self.process, self.began = 1, world.now - 1000.0
        self.hangs = False
        self.parked: list[Request] = []
        self.under_way: dict[Request, Replica] = {}
        self.seen: set[Request] = set()
        self.routed_until: dict[str, float] = {}
        self.rules = self.files_rules = structure(Listen())
        self.restarts = 0
        self.routed_since: dict[str, float] = {}
        self.troubled_at = self.hung_at = float("-inf")
        self.tokens: dict[str, str] = {}
        self.files_tokens: dict[str, str] = {}
        self.uses: dict[str, float] = {}
        self.certificates: list[bytes] = []
        self.refuses = False
        self.tell_load: Callable[[], None] = lambda: None
        self.begun: dict[str, deque[float]] = {}
        self.kept: set[str] = set()  # servers to which requests go over kept connections
        self.warm: set[str] = set()  # servers to which there may be kept connections
        world.warm = lambda replica: self.up and replica.server in self.warm
        world.finished = self._finished
        world.restart_ingress, world.begin_ingress, world.stop_ingress = self.restart, self.begin, self.stop
        world.unrouted_s = self.unrouted_s

    @property
    def up(self) -> bool:
        """Whether the process runs."""
        return self.world.ingress_unit == "active"

    def arrive(self, request: Request) -> None:
        """A request comes: HAProxy's unit waits in PID 1's listener while it does not run."""
        if not self.up:
            self.parked.append(request)
            return
        host = host_of(request.app, DOMAIN)
        server = self.state.hosts.get(host)
        if host in self.state.unavailable:
            request.end = f"503 {self.state.unavailable[host].reason}"
        elif server is None:
            request.end = "404"
        elif request.by_itself and server not in self.state.awake:
            request.end = "503 not awake"
        else:
            self._pass_on(request, server)

    def _watch(self, pool: str) -> None:
        """Tell the daemon of a load that it wants to hear of: the requests of a pool with the one that has come."""
        begun = self.begun.setdefault(pool, deque(maxlen=1000))
        begun.append(self.world.now)
        at_once = 1 + sum(self._open(name) for name, each in self.state.servers.items() if each.pool == pool)
        a_second = sum(self.world.now - at < 1.0 for at in begun)
        watched = self.state.watched
        if at_once >= watched.get(pool, 1 << 31) or a_second >= watched.get(f"{pool}{RATE}", 1 << 31):
            self.world.loop.call_soon(self.tell_load)

    def _chosen(self, server: str) -> str:
        """The server of a pool that has the fewest requests, and whose socket listens: HAProxy tries another one."""
        pool = [name for name, each in self.state.servers.items() if each.pool == server and not each.rests]
        listening = {each.server for each in self.world.pairs if self.world.pairs[each].socket == "active"}
        return min(
            pool, default=server, key=lambda name: (name not in listening, self._open(name), name)
        )  # fmt: skip

    def _open(self, server: str) -> int:
        return self.counters[server].in_flight if server in self.counters else 0

    def _pass_on(self, request: Request, server: str) -> None:
        self._watch(server)
        server = self._chosen(server)
        replica = next((each for each in self._replicas() if each.server == server), None)
        pair = self.world.pairs.get(replica) if replica else None
        if pair is None or pair.socket != "active":
            request.end = REFUSED
            known = replica_of_server(server)
            gone = self.world.gone.get(known, float("-inf")) > self.routed_since.get(server, float("-inf"))
            if not gone and not self.world.excused(known) and not self.world.refuses(known):
                self.world.fault(f"a request to {server} finds no socket")
            return
        counters = self.counters.setdefault(server, Counters())
        counters.in_flight += 1
        counters.started += 1
        counters.last_start = self.world.now
        self.under_way[request] = pair.replica
        self.world.accept(pair, request)

    def _replicas(self) -> list[Replica]:
        return list(self.world.pairs)

    def _finished(self, replica: Replica, request: Request) -> None:
        if self.under_way.pop(request, None) is None:
            return  # it went with an earlier process
        self.seen.discard(request)
        counters = self.counters.get(replica.server)
        if counters is not None:
            counters.in_flight -= 1
            if request.end == "answered":
                counters.answered += 1
                counters.uncounted += request.by_itself
                counters.longest = max(counters.longest, self.world.now - request.came)

    def unrouted_s(self, replica: Replica) -> float:
        """Seconds since the running HAProxy sends no new request to a replica."""
        if replica.server in self._routed():
            return 0.0
        return self.world.now - self.routed_until.get(replica.server, float("-inf"))

    def _routed(self) -> set[str]:
        return routed(self.state)

    def take(self, state: IngressState) -> None:
        """The process has this state from now on; servers that answer requests stay until these end."""
        before = self._routed()
        self.state = state
        self.kept = {each.name for each in state.servers.values() if each.kept}
        self.warm |= self.kept
        for server in before - self._routed():
            self.routed_until[server] = self.world.now
        self.routed_since |= dict.fromkeys(self._routed() - before, self.world.now)
        for server in list(self.counters):
            if server not in state.servers and not self.counters[server].in_flight:
                del self.counters[server]
        for server in state.servers:
            self.counters.setdefault(server, Counters())

    def end_kept(self, server: str) -> None:
        """No request goes over a kept connection to a server any more, and the idle ones are closed."""
        self.kept.discard(server)
        self.warm.discard(server)

    def draining(self) -> frozenset[str]:
        """The servers that were to go and stay for their requests."""
        return frozenset(server for server in self.counters if server not in self.state.servers)

    def stats(self) -> dict[str, Traffic]:
        """The counters, as ``show stat`` has them."""
        now = self.world.now
        self.seen |= set(self.under_way)
        return {
            server: Traffic(
                each.in_flight, 0, each.started, each.answered,
                None if each.last_start is None else float(floor(now) - floor(each.last_start)),
                each.longest, str(self.process), now - self.began, each.uncounted,
            )
            for server, each in self.counters.items()
        }  # fmt: skip

    def end(self) -> None:
        """The process is killed: who was connected hears nothing more."""
        for request in list(self.under_way):
            request.end = "HAProxy ended"
        for pair in self.world.pairs.values():
            pair.queue = [request for request in pair.queue if not request.end]
            for request in [each for each in pair.held if each.end]:
                pair.held.remove(request)
                pair.last_end = self.world.now
            self.world.unheld(pair)
        self.under_way.clear()
        self.seen.clear()
        self.set_unit("inactive")

    def restart(self) -> None:
        """systemd restarts it: it ends when its requests have, or after a while; who comes meanwhile waits."""
        if self.world.ingress_unit != "deactivating":
            self.restarts += 1
            self.set_unit("deactivating")
            self.world.loop.create_task(self._restart())

    async def _restart(self) -> None:
        for _ in range(int(STOP_S * 10)):
            if not self.under_way:
                break
            await asyncio.sleep(0.1)
        self.end()
        self.begin()

    def stop(self, unit: str) -> None:
        """systemd stops it, or its socket."""
        if unit == INGRESS_SOCKET:
            self.world.listening = ()
        elif self.up:
            self.end()

    def begin(self) -> None:
        """It starts, with the files that are there."""
        if self.up:
            return
        self.process, self.began = self.process + 1, self.world.now
        self.counters = {server: Counters() for server in self.files.servers}
        self.routed_until |= dict.fromkeys(self._routed() - routed(self.files), self.world.now)
        self.state, self.rules = dataclasses.replace(self.files), self.files_rules
        self.tokens, self.uses = self.files_tokens, {}
        self.kept, self.warm = set(), set()
        self.set_unit("active")
        waiting, self.parked = self.parked, []
        for request in waiting:
            self.arrive(request)

    def set_unit(self, active: str) -> None:
        """systemd's word for HAProxy's unit."""
        self.world.ingress_unit = active
        self.world.tell(INGRESS_UNIT)


def routed(state: IngressState) -> set[str]:
    """The servers that get requests."""
    leads_to = {name for host, name in state.hosts.items() if host not in state.unavailable}
    pooled = {each.name for each in state.servers.values() if each.pool in leads_to and not each.rests}
    return (leads_to & state.servers.keys()) | pooled


def replica_of_server(server: str) -> Replica:
    """The replica that a server's name stands for."""
    app, revision, number = server.rsplit("-", 2)
    return Replica(app, int(revision[1:]), int(number))
