"""The life of apps on the machine of ``world.py``: verbs, requests, time, and the daemon's own end and start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flyted.contract.answers.events import Event
from flyted.contract.app import to_dict
from flyted.contract.errors import FlytedError
from flyted.contract.names import Replica
from flyted.daemon.api.actor import Actor
from flyted.daemon.api.outbox import ClientGone
from flyted.daemon.api.verbs import Call, Handler
from tests.daemon.driver import Daemon
from tests.daemon.event_loop import EventLoop
from tests.daemon.oracle import Oracle
from tests.daemon.world import World
from tests.daemon.world_ingress import WorldIngress
from tests.daemon.world_pairs import Request
from tests.host.vaults import state_folder
from tests.values import spec

UNTIL_GONE = ("stop", "delete", "image.build", "image.pull", "image.prune")
SLOW = 4.0, 1.0, 0.5, 1.0
BASE = "ghcr.io/flyteorg/flyte:py3.12-v2.1.0"


@dataclass
class Asked:
    """A verb that somebody called, and how it ended: "" while it is under way."""

    verb: str
    app: str
    number: int
    began: float
    ended: float = float("inf")
    end: str = ""
    task: asyncio.Task[None] | None = None
    says: list[str] = field(default_factory=list)
    answer: Any = None
    left: asyncio.Event = field(default_factory=asyncio.Event)


class Life:
    """A machine with flyted on it, for as long as a test wants."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.loop = EventLoop()
        self.clock_s = 0.0
        patch.setattr(time, "time", lambda: 1.7e9 + self.loop.time() + self.clock_s)
        patch.setattr(asyncio, "to_thread", _at_once)  # the clock of a story waits for no thread
        for name in ("images", "bundles"):
            (folder / name).mkdir()
        state_folder(folder)
        (folder / "env/bin").mkdir(parents=True)
        (folder / "env/bin/python").touch()
        self.world = World(self.loop, folder)
        self.haproxy = WorldIngress(self.world)
        self.asked: list[Asked] = []
        self.requests: list[Request] = []
        self.daemon: Daemon | None = None
        self.full = False
        self.disk_was_full = False
        self.troubled_at = float("-inf")
        self.began: list[float] = []  # when flyted started
        self.upgrades = 0
        self._left_outdated: set[Replica] = set()
        self.oracle = Oracle(self)
        self.start()

    @property
    def running(self) -> Daemon:
        """The daemon that runs."""
        assert self.daemon is not None
        return self.daemon

    @property
    def outdated(self) -> set[Replica]:
        """The replicas whose units are to be made anew; while no daemon runs, those of the one before."""
        return self.daemon.execute.outdated if self.daemon is not None else self._left_outdated

    # time

    def run(self, seconds: float) -> None:
        """Let so much time go by."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def until(self, moment: str, limit_s: float) -> str:
        """Let time go by until the daemon comes to a moment, or to the limit; return the app that it is about."""
        replica = self.loop.run_until_complete(self.world.until(moment, limit_s))
        return replica.app_id if replica else ""

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
        if self.daemon is not None:
            self.loop.call_soon(self.daemon.clock.was_set)

    # the daemon

    def start(self) -> None:
        """flyted starts, if it does not run: without systemd it ends at once, and is started again later."""
        if self.daemon is not None or not self.world.bus:
            return

        async def begin() -> None:
            self.began.append(self.world.now)
            self.daemon = Daemon(self.world, self.haproxy, start_s=60 + self.upgrades)
            self.daemon.begin()
            self._fill()

        self.loop.run_until_complete(begin())

    def end(self, *, killed: bool) -> None:
        """flyted ends: by SIGTERM, or SIGKILL."""
        if self.daemon is not None:
            self.loop.run_until_complete(self.daemon.end(killed=killed))
            self._left_outdated = self.outdated
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
        handler = self.running.apps.verbs()[f"app.{verb}"].handler
        return self._call(handler, verb, app, {"project": "", "domain": "", "name": app, **more})

    def ask(self, verb: str, **args: Any) -> Asked:
        """Call a verb about images: "image.prune"."""
        row = self.running.image_verbs()[verb]
        return self._call(row.handler, verb, "", row.check(args))

    def _call(self, handler: Handler, verb: str, app: str, args: dict[str, Any]) -> Asked:
        asked = Asked(verb, app, len(self.asked), self.world.now)
        self.asked.append(asked)

        async def said(event: Event) -> None:
            asked.says.append(str(getattr(event, "text", "")))

        async def work() -> None:
            try:
                call = Call(Actor(0, 1), args, b"", {}, said, gone=asked.left.wait)
                asked.answer = await _unless_left(handler(call))
                asked.end = "done"
                if app:
                    self.oracle.verify(asked)
            except FlytedError as error:
                asked.end = f"{type(error).__name__}: {error.message}"
                if app:
                    self.oracle.refused(asked)
            except asyncio.CancelledError:
                asked.end = "left"
                raise
            except BaseException as error:
                asked.end = f"fault: {error!r}"
                if self.daemon is not None and not self.daemon.systemd.dead:
                    self.world.fault(f"{verb} of {app} ended with {error!r}")
            finally:
                asked.ended = self.world.now

        async def begin() -> None:
            asked.task = self.running.task(work())

        self.loop.run_until_complete(begin())
        return asked

    def serve(self, app: str, *, dies: bool = False, build: str = "", version: int = 0, **changes: Any) -> Asked:
        """Deploy an app. ``build``: a package of its image; "" for an environment that is there."""
        env = (("VERSION", str(version or len(self.asked))), *((("DIES", "yes"),) if dies else ()))
        if build:
            changes["image"] = {"spec": {"baseImage": BASE, "layers": [{"pipPackages": {"packages": [build]}}]}}
        elif "image" not in changes:
            changes["python_env"] = str(self.world.folder / "env")
        made = spec(app, env=env, **{"scaledown_after_s": 30.0, **changes})
        return self.call("serve", app, spec=to_dict(made))

    def leave(self, asked: Asked) -> None:
        """The client of a verb leaves; some verbs end by that, whatever they do."""
        if asked.task is not None and not asked.task.done() and asked.verb in UNTIL_GONE:
            asked.task.cancel()
        self.loop.call_soon(asked.left.set)

    # requests

    def request(self, app: str, takes_s: float = 0.1, *, by_itself: bool = False) -> Request:
        """A request to an app arrives. ``by_itself``: for a path that wakes no app."""
        request = Request(app, takes_s, self.world.now, by_itself=by_itself)
        self.requests.append(request)
        self.haproxy.arrive(request)
        return request

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
                self.haproxy.troubled_at = self.world.now
            case "admin" if self.haproxy.hangs != begins:
                self.haproxy.hangs = begins
                self.haproxy.troubled_at = self.world.now
                if begins:
                    self.haproxy.hung_at = self.world.now
            case "GPU":
                self.world.gpus.lose("GPU-1", heard=True) if begins else self.world.gpus.restore()
            case "slow":
                self.world.pace(*(SLOW if begins else ()))
            case "dying":
                (self.world.dying.add if begins else self.world.dying.discard)(app)

    # the end

    def heal(self) -> None:
        """Everything that was away is back, and flyted runs."""
        self.world.dying.clear()
        self.world.pace()
        self.world.gpus.restore()
        if not self.world.bus:
            self.trouble("bus", "", begins=False)
        if self.full:
            self.fill_disk(full=False)
        self.trouble("admin", "", begins=False)
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


async def _unless_left(work: Awaitable[Any]) -> Any:
    """What a verb returns; one that its client has ended by leaving is cancelled."""
    try:
        return await work
    except ClientGone:
        raise asyncio.CancelledError from None


async def _at_once(work: Callable[..., Any], *arguments: object) -> Any:
    return work(*arguments)


def up(life: Life, app: str = "a", **changes: Any) -> Replica:
    """An app that was served, and runs."""
    asked = life.serve(app, **changes)
    life.run(1)
    assert asked.end == "done"
    return next(replica for replica in life.world.pairs if replica.app_id == app)


def service(life: Life, replica: Replica) -> str:
    """What systemd says of a service."""
    return life.world.pairs[replica].service if replica in life.world.pairs else ""
