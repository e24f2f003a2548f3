"""Whatever happens to apps, in whatever order: nothing that could be kept is lost, and all comes to rest as wanted.

A state machine: hypothesis chooses what happens next and how much time goes by, the machine in memory says what may
never happen (``world.py``), and at the end of each story everything is looked at when it has come to rest.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.daemon.life import Life
from tests.daemon.rest import rest

pytestmark = pytest.mark.slow

PLAIN, ON_GPU, ALWAYS = ("a", "b"), ("g", "h"), ("m",)
APPS = st.sampled_from(["a", "a", "a", "b", "g", "g", "h", "m"])
VERBS = st.sampled_from(["serve", "serve", "serve that dies", "serve an image", "stop", "start", "sleep", "delete"])
TAKES_S = st.sampled_from([0.0, 0.5, 20.0, 45.0, 100.0])
SHORT = st.sampled_from([0.0, 0.005, 0.02, 0.3, 1.0, 3.0])
SETS_CLOCK_S = st.sampled_from([0.0, 0.0, -1e6, 1e6])
LONG = st.sampled_from([8.0, 28.0, 31.0, 70.0, 400.0])
TROUBLES = ("bus", "disk", "HAProxy", "admin", "GPU", "slow", "slow", "dying", "dying")


class Interleavings(RuleBasedStateMachine):
    """One machine, from its first start to its rest."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.life = Life(self.folder, self.patch)
        for app in PLAIN[0], ON_GPU[0], ALWAYS[0]:
            self._serve(app)
            self.life.run(2)

    def _serve(self, app: str, *, dies: bool = False, build: str = "") -> None:
        gpus, least = int(app in ON_GPU), int(app in ALWAYS)
        self.life.serve(app, dies=dies, build=build, gpu_count=gpus, min_replicas=least)

    def _look(self) -> None:
        assert not self.life.world.faults, "\n".join(self.life.world.faults)

    @property
    def runs(self) -> bool:
        """Whether flyted runs."""
        return self.life.daemon is not None

    @precondition(lambda self: self.runs)
    @rule(app=APPS, verb=VERBS, takes_s=TAKES_S, after_s=SHORT)
    def request_and_call(self, app: str, verb: str, takes_s: float, after_s: float) -> None:
        """Somebody calls a verb on an app that has just got a request."""
        self.life.request(app, takes_s)
        self.life.run(after_s)
        self.call(app, verb)

    @precondition(lambda self: self.runs)
    @rule(app=APPS, verb=VERBS)
    def call(self, app: str, verb: str) -> None:
        """Somebody calls a verb."""
        if verb.startswith("serve"):
            build = ("httpx", "broken-package")[len(self.life.asked) % 2] if "image" in verb else ""
            self._serve(app, dies="dies" in verb, build=build)
        else:
            self.life.call(verb, app, **({"keep_data": False} if verb == "delete" else {}))
        self._look()

    @rule(app=APPS, takes_s=TAKES_S)
    def request(self, app: str, takes_s: float) -> None:
        """A request comes."""
        self.life.request(app, takes_s)
        self._look()

    @rule(app=APPS, leaves=st.booleans())
    def crash(self, app: str, leaves: bool) -> None:
        """Programs of an app end, or the client of the newest verb leaves."""
        if leaves:
            self.life.leave(self.life.asked[-1])
        else:
            for pair in [each for each in self.life.world.pairs.values() if each.replica.app_id == app]:
                self.life.world.crash(pair)
        self._look()

    @rule(what=st.sampled_from(TROUBLES), begins=st.sampled_from([True, True, False]), app=APPS)
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

    @rule(seconds=SHORT, count=st.integers(0, 8))
    def wait(self, seconds: float, count: int) -> None:
        """A moment goes by, or not even that: each task goes on a little."""
        (self.life.steps(count) if count else self.life.run(seconds))
        self._look()

    @rule(
        seconds=LONG, suspended=st.sampled_from([False] * 4 + [True]), clock_s=st.sampled_from([0.0, 0.0, -1e6, 1e6])
    )
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


def test_no_order_of_events_loses_what_could_be_kept(pytestconfig: pytest.Config) -> None:
    """Nor puts a busy app to sleep, starts one twice, or leaves a unit that nobody owns."""
    chosen = settings(
        max_examples=25, stateful_step_count=25, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(Interleavings, settings=chosen)
