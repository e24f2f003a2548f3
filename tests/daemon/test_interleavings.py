"""Whatever happens to apps, in whatever order: nothing that could be kept is lost, and all comes to rest as wanted.

A state machine: hypothesis chooses what happens next and how much time goes by, the machine in memory says what may
never happen (``world.py``, ``oracle.py``), and at the end of each story everything is looked at when it has come to
rest. Most faults are between what the daemon has seen and what it does about it. So most events are not at any
moment, but at one at which the daemon waits: for HAProxy, for a job of systemd, for a look at the GPUs.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule, run_state_machine_as_test

from flyted.plan.units import STARTS
from tests.daemon.life import SLOW, Life
from tests.daemon.rest import rest
from tests.daemon.world_units import RESTART_S

STORIES, STEPS = 40, 12
MORE, MORE_STEPS = "FLYTED_TEST_STORIES", 25
"""With this variable so many stories are told, longer ones, and new ones each time."""

ON_GPU, ALWAYS, TWICE, MORE_OF_IT = ("g", "h", "i"), ("m",), ("n",), ("s", "n")
CASTS = st.sampled_from([
    ("a",), ("a", "b"), ("a", "m"), ("g", "h", "i"), ("g", "h", "i"), ("a", "g"), ("s",), ("a", "s"), ("s", "n"),
])  # fmt: skip
PACES = st.sampled_from([
    (0.01, 0.01, 0.5, 0.02), (1.5, 0.01, 0.5, 0.02), (0.01, 1.0, 0.5, 0.6), (0.3, 0.3, 6.0, 0.3), SLOW,
])  # fmt: skip
"""What systemd's jobs, HAProxy, starts of apps and looks at the GPUs take."""
VERBS = ("serve", "serve that dies", "serve an image", "stop", "start", "sleep", "delete", "prune", "rebuild")
TROUBLES = ("bus", "disk", "HAProxy", "admin", "GPU", "slow", "dying")
DECIDED = ("Sleep", "Evict", "StopPair", "RenewPair", "StartPair", "StartService", "FailPair")
"""A pass has decided so, and nothing is done yet."""
ASKED = ("stats", "apply", "start_pair", "start", "stop of a socket", "stop", "GPUs", "journal")
"""The daemon waits for the answer."""
MOMENTS = st.sampled_from([*DECIDED, *ASKED])
EDGES = st.sampled_from(["Sleep", "Sleep", "Evict", "Evict", "StopPair", "StopPair", "RenewPair"])
AT_EDGES = st.sampled_from(["request", "request", "hidden request", "hidden request", "sleep", "start"])
EVENTS = st.lists(
    st.sampled_from([
        "request", "request", "burst", *VERBS, "HAProxy", "admin", "crash", "closed", "restarted", "bus",
    ]),
    min_size=1, max_size=2,
)  # fmt: skip
TAKES_S = st.sampled_from([0.0, 0.7, 20.0, 45.0, 100.0])
SHORT_S = st.sampled_from([0.0, 0.005, 0.3, 1.0, 3.0])
LONG_S = st.sampled_from([8.0, 28.0, 29.9, 31.0, 70.0, 400.0])
SETS_CLOCK_S = st.sampled_from([0.0, 0.0, -1e6, 1e6])
LIMIT_S = 75.0
"""How long a moment is waited for: longer than a drain, and than an app is idle."""


class Interleavings(RuleBasedStateMachine):
    """One machine, from its first start to its rest."""

    apps = Bundle("apps")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.life = Life(self.folder, self.patch)
        self.cast: tuple[str, ...] = ()

    @initialize(target=apps, cast=CASTS, pace=PACES)
    def begin(self, cast: tuple[str, ...], pace: tuple[float, float, float, float]) -> object:
        """Some apps are there; those with GPUs have one for all of them."""
        self.cast = cast
        for app in cast:
            self._serve(app)
            self.life.run(2)
        self.life.world.pace(*pace)
        return multiple(*cast)

    def _serve(self, app: str, *, dies: bool = False, build: str = "") -> None:
        gpus, least = int(app in ON_GPU), 2 if app in TWICE else int(app in ALWAYS)
        most = {"max_replicas": 4, "concurrency": 1} if app in MORE_OF_IT else {}
        self.life.serve(app, dies=dies, build=build, gpu_count=gpus, min_replicas=least, **most)

    def _call(self, app: str, verb: str) -> None:
        if self.life.daemon is None:
            return
        if verb.startswith("serve"):
            build = ("httpx", "broken-package")[len(self.life.asked) % 2] if "image" in verb else ""
            self._serve(app, dies="dies" in verb, build=build)
        elif verb == "prune":
            self.life.ask("image.prune")
        elif verb == "rebuild":
            images = [each.current.image.hash for each in self.life.running.store.apps() if each.current]
            self.life.ask("image.rebuild", hash=next(filter(None, images), "0" * 32), deploy=True)
        else:
            self.life.call(verb, app, **({"keep_data": False} if verb == "delete" else {}))

    def _happens(self, app: str, event: str, takes_s: float) -> None:
        if event in ("request", "burst"):
            for _ in range(4 if event == "burst" else 1):
                self.life.request(app, takes_s)
        elif event == "hidden request":  # HAProxy has it, and does not tell
            self.life.request(app, takes_s)
            self.life.trouble("admin", app, begins=True)
            self.life.run(20)
            self.life.trouble("admin", app, begins=False)
        elif event in VERBS:
            self._call(app, event)
        elif event == "restarted":
            self._restart()
        elif event in ("crash", "closed"):
            self._breaks(app, event)
        else:
            self.life.trouble(event, app, begins=True)
        self._look()

    def _restart(self, *, upgraded: bool = False) -> None:
        self.life.end(killed=True)
        self.life.upgrades += upgraded
        self.life.start()

    def _breaks(self, app: str, how: str) -> None:
        world = self.life.world
        for pair in [each for each in world.pairs.values() if each.replica.app_id == app]:
            (world.crash if how == "crash" else world.close)(pair)

    def _look(self) -> None:
        assert not self.life.world.faults, "\n".join(self.life.world.faults)

    @rule(app=apps, moment=MOMENTS, takes_s=TAKES_S, events=EVENTS)
    def at_a_moment(self, app: str, moment: str, takes_s: float, events: list[str]) -> None:
        """Something happens to an app while the daemon is about to do something with it."""
        found = self.life.until(moment, LIMIT_S) or app
        for event in events:
            self._happens(found, event, takes_s)

    @rule(app=apps, verb=st.sampled_from(VERBS), takes_s=TAKES_S, moment=MOMENTS, events=EVENTS)
    def in_a_call(self, app: str, verb: str, takes_s: float, moment: str, events: list[str]) -> None:
        """Somebody calls a verb on an app that has just got a request; something happens while that goes on."""
        self.life.request(app, takes_s)
        self.life.run(0.005)
        self._call(app, verb)
        self.life.until(moment, 3.0)
        for event in events:
            self._happens(app, event, takes_s)

    @rule(app=apps, moment=EDGES, event=AT_EDGES, takes_s=TAKES_S, after_s=st.sampled_from([0.0, 0.3]))
    def at_an_edge(self, app: str, moment: str, event: str, takes_s: float, after_s: float) -> None:
        """An app is about to be put to sleep for itself or for another, to be renewed, or to be stopped."""
        if moment == "RenewPair":
            self._restart(upgraded=True)
        for each in self.cast if moment == "Evict" else ():
            self.life.request(each, 0.7)
        if moment == "StopPair":
            self.life.request(app, takes_s)
            self.life.run(after_s)
            self._call(app, "stop" if event.startswith("hidden") else "serve")
        else:
            app = self.life.until(moment, LIMIT_S) or app
            self.life.run(after_s)
        self._happens(app, event, takes_s)

    @rule(app=apps, verb=st.sampled_from(VERBS))
    def call(self, app: str, verb: str) -> None:
        """Somebody calls a verb."""
        self._call(app, verb)
        self._look()

    @rule(app=apps, takes_s=TAKES_S, after_s=SHORT_S)
    def request(self, app: str, takes_s: float, after_s: float) -> None:
        """A request comes."""
        self.life.run(after_s)
        self.life.request(app, takes_s)
        self._look()

    @rule(
        app=apps,
        count=st.integers(2, 5),
        takes_s=TAKES_S,
        then_s=SHORT_S,
        event=st.sampled_from(["", "crash", "daemon"]),
    )
    def burst(self, app: str, count: int, takes_s: float, then_s: float, event: str) -> None:
        """Requests come together; replicas come because of them, and one ends by itself, or flyted does."""
        for _ in range(count):
            self.life.request(app, takes_s)
        self.life.run(then_s)
        pairs = [each for each in self.life.world.pairs.values() if each.replica.app_id == app]
        if event == "crash" and pairs:
            self.life.world.crash(pairs[-1])
        elif event == "daemon":
            self._restart()
        self.life.run(then_s)
        self._look()

    @rule(app=apps, pauses_s=st.lists(st.sampled_from([1.0, 3.0, 13.0, 62.0]), min_size=1, max_size=3))
    def gives_up(self, app: str, pauses_s: list[float]) -> None:
        """An app dies, and again at each start, until systemd gives it up; then it would start again."""
        self.life.trouble("dying", app, begins=True)
        self._breaks(app, "crash")
        self.life.request(app)
        self.life.run(STARTS * (self.life.world.start_s + RESTART_S) + 1)
        for seconds in pauses_s:
            self.life.request(app)
            self.life.run(seconds)
        self.life.trouble("dying", app, begins=False)
        self._look()

    @rule(app=apps, how=st.sampled_from(["crash", "closed", "client"]))
    def breaks(self, app: str, how: str) -> None:
        """Programs of an app end, or close their connections, or the client of the newest verb leaves."""
        (self.life.leave(self.life.asked[-1]) if how == "client" else self._breaks(app, how))
        self._look()

    @rule(what=st.sampled_from(TROUBLES), begins=st.sampled_from([True, True, False]), app=apps)
    def trouble(self, what: str, begins: bool, app: str) -> None:
        """A trouble begins or ends."""
        self.life.trouble(what, app, begins=begins)
        self._look()

    @rule(how=st.sampled_from(["killed", "stopped", "started", "restarted", "restarted"]))
    def daemon(self, how: str) -> None:
        """flyted ends, or starts."""
        if how != "started":
            self.life.end(killed=how != "stopped")
        if how in ("started", "restarted"):
            self.life.start()
        self._look()

    @rule(seconds=SHORT_S, count=st.integers(0, 8))
    def wait(self, seconds: float, count: int) -> None:
        """A moment goes by, or not even that: each task goes on a little."""
        (self.life.steps(count) if count else self.life.run(seconds))
        self._look()

    @rule(seconds=LONG_S, suspended=st.sampled_from([False] * 4 + [True]), clock_s=SETS_CLOCK_S)
    def long(self, seconds: float, suspended: bool, clock_s: float) -> None:
        """A long time goes by; the machine may have slept, and somebody may have set its clock."""
        self.life.set_clock(clock_s)
        if suspended:
            self.life.suspend(seconds)
        self.life.run(seconds)
        self._look()

    def teardown(self) -> None:
        """All comes to rest."""
        try:
            if sys.exc_info()[0] is None:  # else there is a fault already
                rest(self.life)
        finally:
            self.life.close()
            self.patch.undo()
            shutil.rmtree(self.folder)


def test_no_order_of_events_loses_what_could_be_kept() -> None:
    """Nor puts a busy app to sleep, starts one twice, or leaves a unit that nobody owns."""
    more = int(os.environ.get(MORE, "0"))
    stories, steps = (more, MORE_STEPS) if more else (min(STORIES, settings().max_examples), STEPS)
    chosen = settings(
        max_examples=stories, stateful_step_count=steps, derandomize=not more,
        deadline=None, database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(Interleavings, settings=chosen)
