"""OpenAI's own Python client, as alice uses it, against llama-server: awake and asleep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine.kit import environments
from tests.machine.kit.apps import state
from tests.machine.kit.llama import ANSWER, KEY, PLAIN, Client, forget, install, serve
from tests.machine.kit.openai_client import outcome, started
from tests.machine.kit.users import alice, until

HOME = Path("/home/alice")
PYTHON = HOME / "openai-env/bin/python"
APP = "llama-openai"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An app with the model; the client in an environment of alice's."""
    install()
    environments.install(environments.environment_for(PYTHON.parents[1]), "openai")
    yield serve(APP, PLAIN)
    forget(APP)


@pytest.fixture(params=["awake", "asleep"])
def app(url: str, request: pytest.FixtureRequest) -> Client:
    """The app as the client finds it: then its first request has to wait for a start."""
    watcher = Client(url)
    if request.param == "asleep":
        alice("flytectl", "app", "sleep", APP)
        assert state(APP) == "sleeping"
    else:
        assert watcher.chat() == ANSWER
    return watcher


def client(url: str, what: str, key: str = KEY, **how: str) -> dict[str, Any]:
    """What became of it."""
    return outcome(started(PYTHON, url, what, key=key, **how))


def marks() -> int:
    """How often the server's log says that it gave up what somebody had asked for."""
    return alice("flytectl", "logs", APP, "-n", "10000").stdout.count("stop: cancel task")


def freed(app: Client, before: int) -> None:
    """It gave it up, works for nobody now, answers others. (Who asks it often keeps it from looking: so its log.)"""
    until(lambda: marks() > before)
    assert app.busy() == []
    assert app.chat() == ANSWER


@pytest.mark.usefixtures("app")
def test_chat(url: str) -> None:
    """The whole answer, and how long it was."""
    assert client(url, "chat") == {"text": ANSWER, "end": "stop", "tokens": 7}


@pytest.mark.usefixtures("app")
def test_stream(url: str) -> None:
    """The same, token by token."""
    assert client(url, "stream") == {"text": ANSWER, "pieces": 6, "end": "stop"}


def test_cancel_in_the_middle_of_a_stream_frees_the_server(app: Client, url: str) -> None:
    """The connection that the client closes is closed all the way to llama-server, which stops at once."""
    before = marks()
    program = started(PYTHON, url, "cancel", key=KEY)
    assert program.stdout is not None
    assert program.stdout.readline() == "in the middle\n"
    (slot,) = app.busy()
    assert slot["next_token"][0]["n_decoded"] < 20_000
    assert outcome(program, "go\n") == {"pieces": 20}
    freed(app, before)


def test_a_bad_key_is_an_authentication_error(app: Client, url: str) -> None:
    """As with OpenAI itself; also when it was the request that woke the app."""
    for key in ("not-the-key-of-it", "x"):
        told = client(url, "chat", key=key)
        assert (told["error"], told["status"]) == ("AuthenticationError", 401)
    assert "Invalid API Key" in told["message"]
    assert app.chat() == ANSWER


def test_a_time_out_of_the_client_frees_the_server(app: Client, url: str) -> None:
    """It waited for a whole answer that takes long; nobody works for it afterwards, and others are answered."""
    before = marks()
    assert client(url, "time_out")["error"] == "APITimeoutError"
    freed(app, before)


def test_who_does_not_trust_the_machines_authority_gets_nothing(url: str) -> None:
    """$SSL_CERT_FILE says who is believed: the system's list in the manual; another authority will not do."""
    other = HOME / "other.crt"
    alice("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-keyout", "/dev/null",
          "-out", str(other))  # fmt: skip
    told = client(url, "chat", certificates=str(other))
    assert told["error"] == "APIConnectionError"
    assert "CERTIFICATE_VERIFY_FAILED" in told["cause"]


@pytest.mark.usefixtures("app")
def test_the_models_are_listed_under_the_name_that_the_app_gives(url: str) -> None:
    """What a client's list of models shows."""
    assert client(url, "models") == {"models": ["tiny"]}
