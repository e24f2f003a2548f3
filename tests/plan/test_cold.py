"""Which apps are cold, what their start does, and what of it their visitors may read."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyted.contract.errors import InvalidInput
from flyted.contract.gpu import Ask
from flyted.contract.names import Replica, freezer_of
from flyted.plan import cold
from flyted.plan.facts import Failure
from flyted.plan.gpus.facts import Asking, GpuFacts
from flyted.plan.ingress import start_page
from flyted.plan.ingress.changes import changes
from flyted.plan.ingress.clients import ClientRules
from flyted.plan.ingress.config import structure
from flyted.plan.ingress.state import IngressState, Listen
from flyted.plan.reconcile import reconcile
from flyted.plan.unit_index import UnitFact
from tests.plan.ingresses import live, state
from tests.plan.test_ingress_changes import Model
from tests.values import DOMAIN, app, facts, pair, quiet

A, B = Replica("a", 1), Replica("b", 1)
HOST = "a.apps.localhost"
SOCKET = "/run/flyted/apps/a-r1-0.sock"
NOW = 1000.0


def planned(units: dict[str, UnitFact], *, spec: dict[str, Any] | None = None, **more: Any) -> IngressState:
    """What the ingress shall have of an app with these units."""
    found = facts(app("a", **spec or {}), **{"units": units, "traffic": {A.server: quiet(1)}, **more})
    return reconcile(found, {}, DOMAIN, NOW).ingress


def starting(status: str = "") -> dict[str, UnitFact]:
    """The units of an app that starts, and says this."""
    units = pair(A, "activating")
    return {**units, A.service: replace(units[A.service], status=status)}


@pytest.mark.parametrize("service", ["inactive", "activating", "deactivating", "failed"])
def test_an_app_that_does_not_run_is_cold(service: str) -> None:
    """A connection to its socket starts it; what it does is said while it starts."""
    found = planned(pair(A, service))
    assert found.cold == {"a-r1-0": SOCKET}
    assert found.steps == ({HOST: cold.STARTS} if service == "activating" else {})
    assert planned({A.socket: pair(A)[A.socket]}).cold == {"a-r1-0": SOCKET}


def test_an_app_that_runs_is_not() -> None:
    """Nor one that is frozen, or whose engine sleeps: these are there at once."""
    assert planned(pair(A, "active")).cold == {}
    frozen = UnitFact(freezer_of(A), "loaded", "active", "")
    assert planned({**pair(A, "active"), frozen.name: frozen}).cold == {}
    units = pair(A, "active")
    asleep = replace(units[A.service], status="asleep, vLLM at level 1: the next request wakes it")
    assert planned({**units, A.service: asleep}).cold == {}


def test_a_pool_is_cold_until_one_of_its_replicas_runs() -> None:
    """The socket is the one at which a request would be."""
    scaled = {"max_replicas": 3, "concurrency": 1}
    assert planned(pair(A), spec=scaled).cold == {"pool-7": SOCKET}
    assert planned(starting(), spec=scaled).steps == {HOST: cold.STARTS}
    assert planned(pair(A, "active"), spec=scaled).cold == {}


def test_the_first_start_and_new_units_have_no_socket_yet() -> None:
    """There is nothing to connect to; a failure is told as ever."""
    new = app("a", serving=None)
    found = reconcile(facts(new, units=starting(), candidates=frozenset({A})), {}, DOMAIN, NOW).ingress
    assert (found.cold, found.steps) == ({}, {HOST: cold.FIRST})
    assert reconcile(facts(new), {}, DOMAIN, NOW).ingress.steps == {}
    stopped = app("a", serving=None, wanted="stopped")
    assert reconcile(facts(stopped, candidates=frozenset({A})), {}, DOMAIN, NOW).ingress.steps == {}
    renewed = planned({}, busy=frozenset({A}))
    assert (renewed.cold, renewed.steps) == ({}, {HOST: cold.STARTS})
    failed = planned({}, failures={A: Failure(1, NOW + 9, "the secret is sesame")})
    assert (failed.cold, failed.steps) == ({}, {})


@pytest.mark.parametrize(
    ("status", "step"),
    [("", cold.STARTS), ("loading main", cold.CODE), ("<b>secret</b>", cold.STARTS),
     ("fetching parameter 'm' ('s3://secret/m, 2.0 MiB'), 12.5 MiB", "It is fetching its files: 12.5 MiB."),
     ("fetching parameter 'm' ('s3://secret/m'), 9e9 MiB", cold.STARTS),
     ("waiting: nothing listens on port 8000, but the program does on 22", cold.STARTS)],
)  # fmt: skip
def test_a_step_is_a_sentence_of_ours(status: str, step: str) -> None:
    """What the app says of itself only chooses it."""
    assert planned(starting(status)).steps == {HOST: step}


@given(st.text(max_size=300))
def test_no_word_of_an_app_reaches_its_visitors(said: str) -> None:
    """Whatever it is, the page and HAProxy's command line stay whole."""
    for status in (said, f"loading {said}", f"fetching {said}", f"fetching {said}, 1.0 MiB"):
        (step,) = planned(starting(status)).steps.values()
        assert start_page.STEP.fullmatch(step)
        assert re.sub(r"[0-9.]+ MiB", "", step) in (cold.STARTS, cold.CODE, f"{cold.FETCHES}: .")


def test_the_place_in_the_line_for_a_gpu_is_said_and_not_why() -> None:
    """The reason names the apps that hold them."""
    why = "the GPU is held by payroll"
    line = (Asking(B, Ask(1), why), Asking(A, Ask(1), why))
    found = planned(starting(), gpu=GpuFacts(asking=line))
    assert found.steps == {HOST: f"{cold.GPU}: place 2 of 2."}


def test_a_model_server_loads_its_model() -> None:
    """An engine does so at each start."""
    engine = {"command": ("vllm", "serve", "facebook/opt-125m")}
    assert planned(starting(), spec=engine).steps == {HOST: cold.MODEL}


@pytest.mark.parametrize(
    "step", ["", "it starts", "It <b>starts</b>.", "It starts\n", "It's", 'It "', "I" * 121, "It é"]
)
def test_nothing_else_is_a_step(step: str) -> None:
    """It stands in a page as it is."""
    with pytest.raises(InvalidInput, match="step"):
        IngressState(steps={HOST: step})


def test_sockets_are_checked_too() -> None:
    """HAProxy connects to them."""
    with pytest.raises(InvalidInput, match="socket path"):
        IngressState(cold={"a-r1-0": "127.0.0.1:80"})


def test_visits_go_on_only_when_all_leads_to_the_app() -> None:
    """A deploy while the app is cold: the new host is told first. A server that goes is not left in the map."""
    old = replace(state({"a": "a-r1-0"}), cold={"a-r1-0": SOCKET}, steps={HOST: cold.STARTS})
    new = replace(state({"a": "a-r2-0"}), awake={"a-r2-0": "yes"})
    model = Model(live(old))
    for command in changes(live(old), new):
        model.do(command)
        assert model.maps["cold.map"] or model.maps["hosts.map"] == {HOST: "a-r2-0"}
        assert model.maps["cold.map"].keys() <= {name.partition("/")[2] for name in model.servers}
    assert (model.maps["cold.map"], model.maps["steps.map"]) == ({}, {})


def test_the_page_is_a_setting() -> None:
    """HAProxy reads the rules when it starts, and has the maps in any case."""
    assert structure(Listen()) != structure(Listen(clients=ClientRules(waiting_page=False)))
    off = start_page.first_rules("/f", on=False) + start_page.rules("/f", on=False)
    assert "/f/cold.map" in off
    assert "/f/steps.map" in off
    assert "http-request" not in off
