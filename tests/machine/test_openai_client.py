"""OpenAI's own Python client, as alice uses it, against llama-server: awake and asleep."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine.lively import state
from tests.machine.llamas import ANSWER, KEY, PLAIN, Client, forget, install, serve
from tests.machine.people import alice, becoming, environment, until

PROGRAM = Path(__file__).parents[1] / "apps" / "openai_client.py"
HOME = Path("/home/alice")
PYTHON = HOME / "openai-env/bin/python"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
APP = "llama-openai"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An app with the model; the client in an environment of alice's."""
    install()
    alice("python3", "-m", "venv", str(PYTHON.parents[1]))
    alice(str(PYTHON), "-m", "pip", "install", "-q", "openai")
    shutil.copy(PROGRAM, HOME)
    (HOME / PROGRAM.name).chmod(0o644)
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


def started(url: str, what: str, key: str = KEY, certificates: str = CERTIFICATES) -> subprocess.Popen[str]:
    """The program, running as alice, in the environment that the manual tells her to set."""
    words = [*becoming("alice"), str(PYTHON), str(HOME / PROGRAM.name), f"{url}/v1", what]
    more = {"OPENAI_API_KEY": key, "SSL_CERT_FILE": certificates}
    return subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HOME,
        env={**environment("alice"), **more},
    )  # fmt: skip


def client(url: str, what: str, **how: str) -> dict[str, Any]:
    """What became of it."""
    with started(url, what, **how) as program:
        out, err = program.communicate(timeout=180)
    assert program.returncode == 0, err
    return dict(json.loads(out.splitlines()[-1]))


def marks() -> int:
    """How often the server's log says that it gave up what somebody had asked for."""
    return alice("flytectl", "logs", APP, "-n", "1000").stdout.count("stop: cancel task")


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
    with started(url, "cancel") as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "in the middle\n"
        (slot,) = app.busy()
        assert slot["next_token"][0]["n_decoded"] < 20_000
        out, err = program.communicate("go\n", timeout=60)
    assert json.loads(out) == {"pieces": 20}, err
    freed(app, before)


def test_a_bad_key_is_an_authentication_error(app: Client, url: str) -> None:
    """As with OpenAI itself; also when it was the request that woke the app."""
    for key in ("not-the-key-of-it", "x"):
        said = client(url, "chat", key=key)
        assert (said["error"], said["status"]) == ("AuthenticationError", 401)
    assert "Invalid API Key" in said["message"]
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
    said = client(url, "chat", certificates=str(other))
    assert said["error"] == "APIConnectionError"
    assert "CERTIFICATE_VERIFY_FAILED" in said["cause"]


@pytest.mark.usefixtures("app")
def test_the_models_are_listed_under_the_name_that_the_app_gives(url: str) -> None:
    """What a client's list of models shows."""
    assert client(url, "models") == {"models": ["tiny"]}
