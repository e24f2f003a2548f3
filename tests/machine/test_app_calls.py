"""Apps call apps: by name, waking them, past their login; those that they name and no others."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.kit.apps import state
from tests.machine.kit.calling import CALLS, LLM, call, chain, own_address, sleep
from tests.machine.kit.programs import do, port_server, serve, write
from tests.machine.kit.pypi_flyte import flyte
from tests.machine.kit.users import alice, answer, by, curl, forget_apps, give, serving, until


@pytest.fixture(scope="module", autouse=True)
def _none_left() -> Iterator[None]:
    forget_apps("calls-")
    yield
    forget_apps("calls-")


@pytest.fixture(scope="module")
def chat() -> str:
    """Three apps in a chain; the URL of the first."""
    give("calls_chain.py", chain("calls-a"))
    urls = alice(*serving("-q", "calls_chain.py")).stdout.split()
    return next(url for url in urls if "//calls-a-chat." in url)


@pytest.fixture(scope="module")
def llm() -> str:
    """An app that others call."""
    return serve("calls-llm", port_server())


@pytest.fixture(scope="module")
def caller(llm: str) -> str:
    """An app that may call it, and one that is not there."""
    assert llm
    return serve("calls-ui", port_server(), "--may-call", "calls-llm", "--may-call", "calls-absent")


@pytest.fixture(scope="module")
def eve(llm: str) -> str:
    """An app that may call none."""
    assert llm
    return serve("calls-eve", port_server())


def test_a_chain_of_apps_that_sleep_is_awake_at_one_request(chat: str) -> None:
    """Each knows who calls, none has a token; the middle one requires one of everybody else."""
    sleep("calls-a-chat", "calls-a-llm", "calls-a-embeddings")
    status, body = curl(chat)
    assert (status, json.loads(body)) == (
        200,
        [
            {"name": "chat", "app": None, "user": None},
            {"name": "llm", "version": "1", "app": "calls-a-chat", "user": None},
            {"name": "embeddings", "app": "calls-a-llm", "user": None},
        ],
    )
    assert curl(chat.replace("chat", "llm") + "/chat")[0] == 401
    described = answer("app", "get", "calls-a-chat")
    assert described["calls"] == ["calls-a-llm"]
    assert "May call" in alice("flytectl", "app", "get", "calls-a-chat").stdout
    assert answer("app", "get", "calls-a-llm")["callers"] == ["calls-a-chat"]
    assert re.search(r"Called by +calls-a-chat$", alice("flytectl", "app", "get", "calls-a-llm").stdout, re.MULTILINE)


def test_streams_and_sockets_go_through(chat: str) -> None:
    """Server-sent events, and a WebSocket."""
    assert curl(f"{chat}/words") == (200, "data: one\n\ndata: two\n\n")
    assert curl(f"{chat}/ws") == (200, '"llm:hello"')


def test_the_sdk_says_why_there_is_no_address(chat: str) -> None:
    """The first of the chain names the second, not the third."""
    status, body = curl(f"{chat}/others")
    assert status == 200
    assert "may not call app 'calls-a-embeddings': name it in depends_on" in body


def test_a_redeploy_under_calls_loses_none(chat: str) -> None:
    """The caller's next call goes to the new revision."""
    with subprocess.Popen(
        ["curl", "-sS", f"{chat}/many?n=1500", "--cacert", "/run/flyted/ca.pem"], stdout=subprocess.PIPE, text=True
    ) as calling:
        give("calls_chain.py", chain("calls-a", "2"))
        alice(*serving("-q", "calls_chain.py", "llm"))
        found = json.loads(calling.communicate(timeout=120)[0])
    assert sum(found.values()) == 1500
    assert json.loads(curl(f"{chat}/many?n=1")[1]) == {"2": 1}


def test_a_call_wakes_also_while_flyted_is_down(chat: str) -> None:
    """And an ingress that starts anew answers calls as before."""
    sleep("calls-a-llm", "calls-a-embeddings")
    subprocess.run(["systemctl", "stop", "flyted.service"], check=True)
    try:
        assert json.loads(curl(f"{chat}/many?n=1")[1]) == {"2": 1}
        subprocess.run(["systemctl", "restart", "flyted-ingress.service"], check=True)
        assert json.loads(curl(f"{chat}/many?n=2")[1]) == {"2": 2}
    finally:
        subprocess.run(["systemctl", "start", "flyted.service"], check=True)
    assert json.loads(curl(f"{chat}/many?n=1")[1]) == {"2": 1}


def test_a_router_that_is_killed_comes_back_with_the_same_addresses(chat: str) -> None:
    """Calls go on a moment later; the ingress knows who they are."""
    before = own_address("calls-a-chat")
    subprocess.run(["systemctl", "kill", "--signal=KILL", "flyted-net.service"], check=True)
    until(lambda: curl(f"{chat}/many?n=1") == (200, '{"2":1}'))
    assert own_address("calls-a-chat") == before


def test_an_app_that_is_called_is_in_use() -> None:
    """It does not sleep under a call that takes longer than its patience, and sleeps afterwards."""
    file = Path("/home/alice", write("calls-short", port_server()))
    file.write_text(file.read_text().replace("seconds=300", "seconds=1"))
    alice(*serving("-q", "calls_short.py"))
    url = serve("calls-long", port_server(), "--may-call", "calls-short")
    assert call(url, "http://calls-short.apps.internal/slow?s=4")[0] == 200
    until(lambda: state("calls-short") == "sleeping")
    assert call(url, "http://calls-short.apps.internal/")[0] == 200


def test_calls_that_cannot_be_are_refused_in_words(caller: str, eve: str) -> None:
    """Not allowed, not there, stopped; at once, and the caller is not told to try again for nothing."""
    began = time.monotonic()
    direct = {"headers": {"Host": "calls-llm.apps.internal"}}
    status, said = call(eve, f"http://{CALLS}/", **direct)
    assert (status, "may not call app 'calls-llm': name it in depends_on" in said) == (403, True)
    assert call(caller, f"http://{CALLS}/", headers={"Host": "calls-eve.apps.internal"})[0] == 403
    status, said = call(caller, "http://calls-absent.apps.internal/")
    assert (status, "'calls-absent' is not served: flytectl serve FILE" in said) == (404, True)
    assert call(caller, LLM)[0] == 200
    alice("flytectl", "app", "stop", "calls-llm")
    try:
        status, said = call(caller, LLM)
        assert (status, "flytectl app start calls-llm" in said) == (503, True)
    finally:
        alice("flytectl", "app", "start", "calls-llm")
    assert call(caller, LLM)[0] == 200
    assert call(eve, LLM)[0] == 0, "a name that it has no business with"
    assert time.monotonic() - began < 60


def test_a_file_says_what_is_missing(caller: str) -> None:
    """At the deploy."""
    assert caller
    said = alice(*serving(write("calls-note", port_server()), "--may-call", "calls-nowhere")).stderr
    assert "it may call calls-nowhere, which is not served yet" in said
    done = by("alice", *serving("calls_note.py", "--may-call", "p/d/x"))
    assert (done.returncode, "'p/d/x' is not valid" in done.stderr) == (2, True)


def test_an_app_without_egress_may_call_apps_and_reaches_nothing_else(llm: str) -> None:
    """Neither the machine, nor others, nor a name server; and from its address nothing gets out."""
    assert llm
    url = serve("calls-closed", port_server(), "--no-egress", "--may-call", "calls-llm")
    assert call(url, LLM)[0] == 200
    sleep("calls-closed")
    assert call(url, LLM)[0] == 200
    for host, port in (("198.19.0.2", 80), ("198.19.0.3", 53), ("192.0.2.1", 80), (CALLS, 81)):
        said = do(url, f"import socket\nsocket.create_connection(({host!r}, {port}), 4)")
        assert "Error" in said, (host, said)
        assert "timed out" not in said.lower(), (host, said)
    assert "Error" in do(url, "import socket\nsocket.create_connection(('198.18.0.1', 80), 2)"), "the router"


@pytest.mark.usefixtures("pypi_flyte")
def test_flyte_deploys_apps_that_call_each_other() -> None:
    """The stock command and SDK: depends_on from the code, AppEndpoint from the parameters."""
    give("stock/calls_stock.py", chain("calls-b"))
    flyte("deploy", "calls_stock.py", "chat")
    flyte("deploy", "calls_stock.py", "llm")
    url = answer("app", "get", "calls-b-chat")["url"]
    names = ("calls-b-chat", "calls-b-llm", "calls-b-embeddings")
    until(lambda: all(state(name) in ("running", "sleeping") for name in names), 120)
    assert [answer("app", "get", name)["calls"] for name in names] == [["calls-b-llm"], ["calls-b-embeddings"], []]
    sleep(*names)
    status, body = curl(url)
    assert (status, [each["app"] for each in json.loads(body)]) == (200, [None, "calls-b-chat", "calls-b-llm"])
