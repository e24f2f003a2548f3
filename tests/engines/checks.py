"""What holds for every engine: each function is the body of a test, and takes one that serves."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from tests.engines.serving import ANSWER, CANARY, KEY, NAME, Served, question
from tests.machine.kit.users import alice, answer, until

STOP_S = 30


def serves(engine: Served, open_paths: Iterable[str]) -> None:
    """Serve has said which folder the model is taken from, which paths are open, and where."""
    assert "model Qwen/Qwen3-0.6B is read from /srv/models/tiny" in engine.said
    assert "public paths (its API key required): /v1" in engine.said
    assert set(open_paths) <= set(answer("app", "get", engine.app)["open_paths"])
    assert engine.url.startswith(f"https://{engine.app}.apps.localhost")
    assert engine.state == "running"


def answers(engine: Served) -> None:
    """With the key the model's own words; without it, or with another one, nothing but 401."""
    assert engine.chat() == (200, ANSWER)
    assert engine.chat(key="")[0] == 401
    assert engine.chat(key="sk-wrong")[0] == 401
    status, body = engine.ask("/v1/models")
    assert (status, '"qwen3-0.6b"' in body) == (200, True)


def is_closed(engine: Served, paths: Iterable[str]) -> None:
    """What the key does not guard is not reached, with the key or without, however it is written."""
    for path in paths:
        for key in (KEY, ""):
            assert engine.ask(path, question() if path == "/invocations" else None, key)[0] == 403, path
    for path in ("/v1/../invocations", "/v1/%2e%2e/invocations", "//invocations", "/v1/..;/invocations"):
        status, said = engine.ask(path, question(), "")
        assert status in (400, 401, 403, 404), f"{path}: {status} {said}"
        assert ANSWER not in said
    assert engine.ask("/health", key="")[0] == 200


def keeps_the_key(engine: Served) -> None:
    """In no argument, file, cache, line of the journal, or property; and mallory cannot read where it is."""
    assert CANARY.found() == []
    for pid in engine.processes():
        assert not CANARY.holds(Path(f"/proc/{pid}/cmdline").read_bytes())
    environ = Path(f"/proc/{engine.show('MainPID')}/environ")
    assert not CANARY.holds(environ.read_bytes())  # what the unit was started with: it came as a credential


def caches_survive(engine: Served, variables: Iterable[str]) -> None:
    """What the engine downloads and compiles lies in the app's cache, not in a /tmp that goes."""
    environ = engine.environ()
    for name in variables:
        assert environ[name].startswith(f"/var/cache/flyted-app-{engine.app}"), name


def openai_client(engine: Served) -> None:
    """The client that people use: a chat, a stream in pieces, the list of models, and what a bad key becomes."""
    made = engine.client("chat")
    assert (made["text"], made["end"]) == (ANSWER, "stop")
    streamed = engine.client("stream")
    assert (streamed["text"], streamed["end"]) == (ANSWER, "stop")
    assert streamed["pieces"] > 2
    assert engine.client("models") == {"models": [NAME]}
    assert engine.client("chat", key="sk-wrong")["error"] == "AuthenticationError"


def hanging_up_ends_the_work(engine: Served, running: str) -> None:
    """A client that goes away in the middle of a long answer: the engine stops writing it.

    ``running``: the metric that counts the requests that are worked on.
    """

    def now() -> float:
        lines = engine.inside("/metrics").splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(running))

    assert engine.client("cancel", typed="go\n") == {"pieces": 20}
    until(lambda: now() == 0, 30)
    assert any(line.startswith(running) for line in engine.inside("/metrics").splitlines())
    assert engine.chat() == (200, ANSWER)


def sleeps_and_wakes(engine: Served) -> None:
    """SIGTERM ends all its processes in time; the next request is held until the model is loaded, and answered."""
    processes = engine.processes()
    assert len(processes) > 2
    started = time.monotonic()
    alice("flytectl", "app", "sleep", engine.app)
    engine.seconds["stop"] = time.monotonic() - started
    assert engine.seconds["stop"] < STOP_S
    assert [pid for pid in processes if Path(f"/proc/{pid}").exists()] == []
    assert engine.show("Result") == "success"
    assert engine.state == "sleeping"
    with CANARY.never_in_command_lines():
        assert engine.client("impatient")["error"] == "APITimeoutError"  # which woke it all the same
        started = time.monotonic()
        assert engine.chat() == (200, ANSWER)
        engine.seconds["wake"] = time.monotonic() - started
    assert engine.state == "running"
    keeps_the_key(engine)


def tell(engine: Served) -> None:
    """The figures, for whoever reads the run."""
    print(f"\n{engine.app}: " + ", ".join(f"{what} {seconds:.1f} s" for what, seconds in engine.seconds.items()))
