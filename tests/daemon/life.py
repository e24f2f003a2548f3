"""The life of apps on the machine of ``world.py``: verbs, requests, time, and the daemon's own end and start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.answers.events import Event
from flyted.contract.app import to_dict
from flyted.contract.errors import FlytedError
from flyted.contract.names import AppKey, Replica, host_of
from flyted.daemon.api.actor import Actor
from flyted.daemon.api.verbs import Call
from tests.daemon.driver import Daemon
from tests.daemon.fake import EventLoop
from tests.daemon.world import World
from tests.daemon.world_ingress import WorldIngress
from tests.daemon.world_pairs import Request
from tests.values import DOMAIN, spec

REST_S = 600.0
"""The longest pause after failures, a drain, a sleep and a wait for a GPU, with room to spare."""
BASE = "ghcr.io/flyteorg/flyte:py3.12-v2.1.0"


@dataclass
class Asked:
    """A verb that somebody called, and how it ended: "" while it is under way."""

    verb: str
    app: str
    number: int
    end: str = ""
    task: asyncio.Task[None] | None = None
    says: list[str] = field(default_factory=list)


class Life:
    """A machine with flyted on it, for as long as a test wants."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.loop = EventLoop()
        self.clock_s = 0.0
        patch.setattr(time, "time", lambda: 1.7e9 + self.loop.time() + self.clock_s)
        for name in ("images", "bundles"):
            (folder / name).mkdir()
        (folder / "env/bin").mkdir(parents=True)
        (folder / "env/bin/python").touch()
        self.world = World(self.loop, folder)
        self.haproxy = WorldIngress(self.world)
        self.world.excused = self._excused
        self.world.sleeps = self._sleeps
        self.asked: list[Asked] = []
        self.requests: list[Request] = []
        self.daemon: Daemon | None = None
        self.full = False
        self.disk_was_full = False
        self.troubled_at = float("-inf")
        self.start()

    @property
    def running(self) -> Daemon:
        """The daemon that runs."""
        assert self.daemon is not None
        return self.daemon

    # time

    def run(self, seconds: float) -> None:
        """Let so much time go by."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def steps(self, count: int) -> None:
        """Let each task that can go on do so, so many times; no time goes by."""

        async def steps() -> None:
            for _ in range(count):
                await asyncio.sleep(0)

        self.loop.run_until_complete(steps())

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: afterwards everything is late at once."""
        self.loop._skipping.now += seconds

    # the daemon

    def start(self) -> None:
        """flyted starts, if it does not run: without systemd it ends at once, and is started again later."""
        if self.daemon is not None or not self.world.bus:
            return

        async def begin() -> None:
            self.daemon = Daemon(self.world, self.haproxy)
            self.daemon.begin()
            self._fill()

        self.loop.run_until_complete(begin())

    def end(self, *, killed: bool) -> None:
        """flyted ends: by SIGTERM, or SIGKILL."""
        if self.daemon is not None:
            self.troubled_at = self.world.now
            self.loop.run_until_complete(self.daemon.end(killed=killed))
            self.daemon = None

    def fill_disk(self, *, full: bool) -> None:
        """The disk takes no byte, or does again."""
        self.full = full
        self.disk_was_full |= full
        self._fill()
        self.troubled_at = self.world.now

    def _fill(self) -> None:
        if self.daemon is not None:
            self.daemon.store.database._db.execute(f"PRAGMA query_only = {'ON' if self.full else 'OFF'}")

    # verbs

    def call(self, verb: str, app: str, **more: Any) -> Asked:
        """Call a verb on an app."""
        asked = Asked(verb, app, len(self.asked))
        self.asked.append(asked)

        async def said(event: Event) -> None:
            asked.says.append(str(getattr(event, "text", "")))

        args = {"project": "", "domain": "", "name": app, **more}
        handler = self.running.apps.verbs()[f"app.{verb}"].handler

        async def work() -> None:
            try:
                await handler(Call(Actor(0, 1), args, b"", None, said))
                asked.end = "done"
                self._verify(asked)
            except FlytedError as error:
                asked.end = f"{type(error).__name__}: {error.message}"
            except asyncio.CancelledError:
                asked.end = "left"
                raise
            except BaseException as error:
                asked.end = f"fault: {error!r}"
                if self.daemon is not None and not self.daemon.systemd.dead:
                    self.world.fault(f"{verb} of {app} ended with {error!r}")

        async def begin() -> None:
            asked.task = self.running.task(work())

        self.loop.run_until_complete(begin())
        return asked

    def serve(self, app: str, *, dies: bool = False, build: str = "", version: int = 0, **changes: Any) -> Asked:
        """Deploy an app. ``build``: a package of its image; "" for an environment that is there."""
        env = (("VERSION", str(version or len(self.asked))), *((("DIES", "yes"),) if dies else ()))
        if build:
            changes["image"] = {"spec": {"baseImage": BASE, "layers": [{"pipPackages": {"packages": [build]}}]}}
        else:
            changes["python_env"] = str(self.world.folder / "env")
        made = spec(app, env=env, **{"scaledown_after_s": 30.0, **changes})
        return self.call("serve", app, spec=to_dict(made))

    def leave(self, asked: Asked) -> None:
        """The client of a stop or a deletion leaves."""
        if asked.task is not None and not asked.task.done() and asked.verb in ("stop", "delete"):
            asked.task.cancel()

    def _alone(self, asked: Asked) -> bool:
        """Whether no other verb on that app was called since, or still runs."""
        return not any(
            each is not asked and each.app == asked.app and (each.number > asked.number or not each.end)
            for each in self.asked
        )  # fmt: skip

    def _verify(self, asked: Asked) -> None:
        """What a verb has brought about when it returns."""
        found = self.running.store.find(AppKey("default", "development", asked.app))
        units = [replica.server for replica in self.world.pairs if replica.app_id == asked.app]
        if not self._alone(asked):
            return
        if asked.verb in ("stop", "delete") and units:
            self.world.fault(f"{asked.verb} of {asked.app} is done, and {units} are there")
        if asked.verb == "delete" and found is not None:
            self.world.fault(f"{asked.app} is deleted, and known")
        if asked.verb in ("serve", "start") and (found is None or found.serving is None or found.wanted != "started"):
            self.world.fault(f"{asked.verb} of {asked.app} is done, and it does not serve")

    # requests

    def request(self, app: str, takes_s: float = 0.1) -> Request:
        """A request to an app arrives."""
        request = Request(app, takes_s, self.world.now)
        self.requests.append(request)
        self.haproxy.arrive(request)
        return request

    def _excused(self, replica: Replica) -> bool:
        """Whether the user, or a trouble of the machine, is why a request to a replica is lost."""
        recent = self.world.now - 40
        if self.troubled_at > recent or self.world.gpus.lost_at > recent or not self.world.bus:
            return True
        if self.daemon is not None and replica in self.daemon.execute.outdated:
            return True
        if self.daemon is not None and self.haproxy.hangs:  # a stop does not wait for HAProxy for ever
            stored = next((app for app in self.daemon.store.apps() if app.key.id == replica.app_id), None)
            if stored is None or stored.wanted == "stopped":
                return True
        return any(each.app == replica.app_id and each.verb == "sleep" for each in self.asked if not each.end) or (
            self.world.slept_by_hand.get(replica.app_id, -1e9) > recent
        )

    def _sleeps(self, replica: Replica) -> None:
        """The daemon stops the service of a pair that goes on listening."""
        if any(each.app == replica.app_id and each.verb == "sleep" for each in self.asked if not each.end):
            self.world.slept_by_hand[replica.app_id] = self.world.now
            return
        if replica in self.running.loop.candidates:
            return
        busy = [r for r, where in self.haproxy.under_way.items() if where == replica and r in self.haproxy.seen]
        if busy:
            self.world.fault(f"{replica.server} is put to sleep with {len(busy)} requests that were seen")

    # troubles

    def trouble(self, what: str, app: str, *, begins: bool) -> None:
        """A trouble of the machine, or of one app, begins or ends."""
        match what:
            case "bus" if self.world.bus == begins:
                self.troubled_at = self.world.now
                self.world.connect(bus=not begins)
            case "disk":
                self.fill_disk(full=begins)
            case "HAProxy" if self.haproxy.up == begins:
                (self.haproxy.end if begins else self.haproxy.begin)()
            case "admin":
                self.haproxy.hangs = begins
            case "GPU":
                self.world.gpus.lose("GPU-1", heard=True) if begins else self.world.gpus.restore()
            case "slow":
                self.world.job_s, self.world.haproxy_s = (2.0, 1.5) if begins else (0.01, 0.01)
            case "dying":
                (self.world.dying.add if begins else self.world.dying.discard)(app)

    # rest

    def heal(self) -> None:
        """Everything that was away is back, and flyted runs."""
        self.world.dying.clear()
        self.world.job_s = self.world.haproxy_s = 0.01
        self.world.gpus.restore()
        if not self.world.bus:
            self.world.connect(bus=True)
        if self.full:
            self.fill_disk(full=False)
        self.haproxy.hangs = False
        self.start()
        self.haproxy.begin()
        self.running.loop.unit_changed("")

    def close(self) -> None:
        """End everything; nothing may have failed unheard."""
        self.end(killed=False)

        async def own() -> None:
            for task in self.world.own:
                task.cancel()
            await asyncio.gather(*self.world.own, return_exceptions=True)

        self.loop.run_until_complete(own())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        assert self.loop.unhandled == []

    def rest(self) -> None:
        """Heal the machine, let it come to rest, and look that all is as it is wanted."""
        self.heal()
        self.run(REST_S)
        faults = [f"{each.verb} of {each.app} never ends" for each in self.asked if not each.end]
        faults += [f"a request of {each.came} to {each.app} never ends" for each in self.requests if not each.end]
        faults += [*self._wrong_units(), *self._wrong_ingress(), *self._wrong_leases()]
        for app in self.running.store.apps():
            if app.wanted == "started" and app.serving is not None:
                request = self.request(app.key.id)
                self.run(45)
                if request.end != "answered":
                    faults.append(f"a request to {app.key.id} at rest: {request.end or 'waits'}")
        self.run(100)
        before = self.running.systemd.looks
        self.run(10_000)
        if self.running.systemd.looks != before:
            faults.append(f"the daemon looked {self.running.systemd.looks - before} times while nothing happened")
        assert not [*self.world.faults, *faults], "\n".join([*self.world.faults, *faults])

    def _wanted(self) -> dict[Replica, bool]:
        """Each replica that shall exist, and whether it shall always run."""
        return {
            Replica(app.key.id, app.serving): app.current.spec.min_replicas > 0
            for app in self.running.store.apps()
            if app.wanted == "started" and app.serving is not None and app.current is not None
        }  # fmt: skip

    def _wrong_units(self) -> Iterator[str]:
        wanted, pairs = self._wanted(), self.world.pairs
        yield from (f"nobody owns the units of {each.server}" for each in pairs.keys() - wanted.keys())
        yield from (f"{each.server} has no units" for each in wanted.keys() - pairs.keys())
        for replica in wanted.keys() & pairs.keys():
            pair = pairs[replica]
            at_rest = ("active",) if wanted[replica] else ("inactive", "failed")
            if pair.socket != "active" or pair.service not in at_rest:
                yield f"{replica.server} is at rest with {pair.socket} and {pair.service}"
        files = {path.name for path in (self.world.folder / "starts").glob("*")}
        if files != {replica.service for replica in pairs}:
            yield f"start documents {files} of pairs {set(pairs)}"
        for app in self.running.store.apps():
            pending = [each.number for each in app.revisions if each.status == "pending"]
            if pending and not self.disk_was_full:  # it says so itself then: until flyted starts again
                yield f"revisions {pending} of {app.key} are pending"

    def _wrong_ingress(self) -> Iterator[str]:
        hosts = {host_of(replica.app_id, DOMAIN): replica.server for replica in self._wanted()}
        state = self.haproxy.state
        if dict(state.hosts) != hosts or set(state.servers) != set(hosts.values()):
            yield f"HAProxy has {dict(state.hosts)}, servers {set(state.servers)}; wanted are {hosts}"
        rest = {host_of(app.key.id, DOMAIN) for app in self.running.store.apps()} - hosts.keys()
        if set(state.unavailable) != rest:
            yield f"HAProxy says why {set(state.unavailable)} are unavailable; they are {rest}"

    def _wrong_leases(self) -> Iterator[str]:
        held = {pair.replica.service for pair in self.world.pairs.values() if pair.devices}
        leases = {lease.unit for lease in self.running.table.leases}
        if leases != held:
            yield f"leases of {leases}, and GPUs are used by {held}"
