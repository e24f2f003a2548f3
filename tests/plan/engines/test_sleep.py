"""Apps whose program sleeps and stays: what is decided about them, from what their units say."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from flyted.contract.app import SecretUse
from flyted.contract.names import Replica
from flyted.contract.status import AppState
from flyted.launch import sleeper
from flyted.launch.words import SLEEP_S
from flyted.plan.actions import EngineSleep, Sleep
from flyted.plan.engines import sleep
from flyted.plan.engines.shape import open_paths
from flyted.plan.engines.vllm import OPENABLE
from flyted.plan.idle import Clock
from flyted.plan.notes import notes
from flyted.plan.reconcile import reconcile
from flyted.plan.states import state_of
from flyted.plan.unit_index import UnitFact
from flyted.plan.units import app_units
from tests.values import DOMAIN, MACHINE, app, facts, pair, quiet, spec, told

A1 = Replica("a", 1)
VLLM: dict[str, Any] = {"command": ("vllm", "serve", "m"), "port": 8080, "engine_sleep": 1, "gpu_count": 1}
KEYED: dict[str, Any] = {
    **VLLM, "command": (*VLLM["command"], "--api-key", "$K"), "secrets": (SecretUse("K", env="K"),)
}  # fmt: skip
ASLEEP = "asleep, vLLM at level 1: the next request wakes it"


def units(status: str, active: str = "active") -> dict[str, UnitFact]:
    """The pair of an app whose service says this of itself."""
    found = pair(A1, active)
    return {**found, A1.service: dataclasses.replace(found[A1.service], status=status)}


def test_the_daemon_is_more_patient_than_launch() -> None:
    """launch first waits for requests in flight, then for the engine."""
    assert sleep.ANSWER_S > SLEEP_S + sleeper._DRAIN_S


def test_an_idle_engine_is_put_to_sleep_and_not_stopped() -> None:
    """Only where the user asked for it; no other app is."""
    stop = Sleep(A1, quiet(100))
    for changes, action in ((VLLM, EngineSleep(A1)), ({**VLLM, "engine_sleep": 0}, stop), ({}, stop)):
        seen = facts(app("a", scaledown_after_s=10.0, **changes), units=units(""), traffic={"a-r1-0": quiet(100)})
        answer = reconcile(seen, {"a-r1-0": Clock(0.0, 0.0)}, DOMAIN, 1000.0)
        assert answer.actions == (action,)


def test_one_that_sleeps_is_left_alone_and_costs_no_timer() -> None:
    """But how long it has been idle stays known: another app may want its GPU. Awake again, it is watched again."""
    seen = facts(app("a", **VLLM), units=units(ASLEEP), traffic={"a-r1-0": quiet(100)})
    first = reconcile(seen, {}, DOMAIN, 1000.0)
    assert (first.actions, first.next_pass_at, set(first.clocks)) == ((), None, {"a-r1-0"})
    later = reconcile(seen, first.clocks, DOMAIN, 9000.0)
    assert (later.actions, later.clocks["a-r1-0"].since) == ((), first.clocks["a-r1-0"].since)
    woken = facts(app("a", **VLLM), units=units("awake again, after sleep 1"), traffic={"a-r1-0": quiet(1, started=2)})
    assert reconcile(woken, later.clocks, DOMAIN, 9001.0).next_pass_at is not None


def test_one_that_sleeps_is_shown_as_sleeping() -> None:
    """With what it sleeps by. A service that has ended is not awake because its last words were."""
    assert state_of(app("a", **VLLM), facts(units=units(ASLEEP))) == (AppState.SLEEPING, ASLEEP)
    assert state_of(app("a", **VLLM), facts(units=units("serving a on port 8080")))[0] is AppState.RUNNING
    assert state_of(app("a", **VLLM), facts(units=units(ASLEEP, "deactivating")))[0] is AppState.STOPPING


@pytest.mark.parametrize(
    ("before", "status", "said"),
    [
        ("serving a on port 80", "serving a on port 80", False),
        ("serving a on port 80", ASLEEP, True),
        ("awake again, after sleep 1", "awake again, after sleep 1", False),
        ("awake again, after sleep 1", "awake, busy at try 2 to sleep", True),
        ("", "", False),
    ],
)
def test_what_counts_as_an_answer(before: str, status: str, said: bool) -> None:
    """A status that says either, and that is not an earlier answer."""
    assert sleep.answered(before, status) is said


def test_only_their_units_are_asked_for_a_status() -> None:
    """Of all revisions: an earlier one may still run."""
    assert sleep.sleepers((app("a", revisions=2, serving=2, **VLLM), app("b"))) == {
        A1.service,
        Replica("a", 2).service,
    }


def test_the_unit_has_it_all() -> None:
    """vLLM's switch and mode, and launch's own option; once, and not for others."""
    for command in (VLLM["command"], (*VLLM["command"], "--enable_sleep_mode")):
        environment, options = told(app_units(spec(**{**VLLM, "command": command}), A1, image_path="/i"))
        assert options.sleep == 1
        assert len([w for w in options.command if w.replace("_", "-") == "--enable-sleep-mode"]) == 1
        assert environment["VLLM_SERVER_DEV_MODE"] == "1"
    environment, options = told(app_units(spec(**{**VLLM, "gpu_count": 0}), A1, image_path="/i"))
    assert "--enable-sleep-mode" not in options.command  # vLLM 0.32: "not supported on current platform"
    assert environment["VLLM_SERVER_DEV_MODE"] == "1"
    environment, options = told(app_units(spec(**{**VLLM, "engine_sleep": 0}), A1, image_path="/i"))
    assert "sleep" not in str(options.command)
    assert options.sleep == 0
    assert "VLLM_SERVER_DEV_MODE" not in environment


def test_the_endpoints_of_its_sleep_are_closed_whatever_guards_the_app() -> None:
    """With a key, with a token, with nothing: one list of what is open, and none of it is a development endpoint."""
    assert open_paths(spec(**KEYED)) == ("/v1", "/v2", "/inference", "/cohere", "/health")
    assert open_paths(spec(**{**KEYED, "requires_auth": True})) == OPENABLE
    assert open_paths(spec(**{**VLLM, "requires_auth": True})) == OPENABLE
    assert open_paths(spec(**VLLM)) == OPENABLE
    assert open_paths(spec(**{**VLLM, "engine_sleep": 0})) is None
    development = {"/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/server_info", "/reset_prefix_cache"}
    assert not development & set(OPENABLE)


def test_what_it_costs_is_said() -> None:
    """Level 1 needs memory; and which paths are left."""
    said = list(notes(spec(**VLLM), MACHINE))
    assert [n for n in said if "keeps the model's weights in memory" in n]
    assert [n for n in said if "no key protects, so only these paths are open: /v1, " in n]
    assert not [n for n in notes(spec(**{**VLLM, "engine_sleep": 2}), MACHINE) if "in memory" in n]
    assert [n for n in notes(spec(**{**VLLM, "gpu_count": 0}), MACHINE) if "without a GPU vLLM frees no memory" in n]
