"""The life of apps on the machine of ``world.py``: verbs, requests, time, and the daemon's own end and start."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.answers.events import Event
from flyted.contract.app import to_dict
from flyted.contract.errors import FlytedError
from flyted.contract.names import AppKey, Replica
from flyted.daemon.api.actor import Actor
from flyted.daemon.api.verbs import Call
from tests.daemon.driver import Daemon
from tests.daemon.event_loop import EventLoop
from tests.daemon.world import World
from tests.daemon.world_ingress import WorldIngress
from tests.daemon.world_pairs import Request
from tests.values import spec

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

    def set_clock(self, forward_s: float) -> None:
        """The machine's clock is set."""
        self.clock_s += forward_s

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

    # the end

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


def up(life: Life, app: str = "a", **changes: object) -> Replica:
    """An app that was served, and runs."""
    asked = life.serve(app, **changes)  # type: ignore[arg-type]
    life.run(1)
    assert asked.end == "done"
    return next(replica for replica in life.world.pairs if replica.app_id == app)


def service(life: Life, replica: Replica) -> str:
    """What systemd says of a service."""
    return life.world.pairs[replica].service if replica in life.world.pairs else ""
