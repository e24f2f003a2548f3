"""Revisions that do not come up: the user sees why, the revision before them keeps serving."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.machine.kit import users
from tests.machine.kit.apps import serve, write
from tests.machine.kit.users import alice, answer, by, curl, forget_apps, forget_secrets, give, serving, until

APP, FIRST = "start-worse", "start-first"

RAISES = "raise RuntimeError('cannot go on')"
EXITS = "print('last words'); sys.exit(0)"
KILLED = "print('last words', flush=True); os.kill(os.getpid(), 9)"
HANGS = "print('last words'); time.sleep(3600)"
CHATTY = """
for n in range(150_000):
    print("loading shard", n)
raise RuntimeError("the real reason")
"""
LIFESPAN = """
import contextlib

@contextlib.asynccontextmanager
async def no_model(app):
    raise RuntimeError("no model at /srv/m")
    yield

app.router.lifespan_context = no_model
"""
KEYED = """
import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()
env = FastAPIAppEnvironment(
    name="start-keyed", app=app, requires_auth=False, secrets=flyte.Secret("START_KEY", as_env_var="START_KEY"),
    image=flyte.Image.from_debian_base(python_version=(3, 13)).with_pip_packages("fastapi", "uvicorn", "websockets"),
)
"""
NEVER_UP = """
import contextlib

@contextlib.asynccontextmanager
async def for_ever(app):
    print("last words")
    await asyncio.sleep(3600)
    yield

app.router.lifespan_context = for_ever
"""


@pytest.fixture(scope="module", autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    by("alice", "flytectl", "app", "delete", "--yes", "--data", APP)  # may not be there: a part of the tests ran


@pytest.fixture(scope="module")
def served() -> str:
    """An app that serves, before its file gets worse; its URL."""
    return serve(APP, version="old")


@pytest.fixture(autouse=True)
def _first_is_first() -> None:
    """What these tests deploy for the first time is not there."""
    forget_apps(FIRST)
    forget_apps("start-keyed")
    forget_secrets("START_KEY")


def fails(name: str, at_start: str, said: str) -> str:
    """Serves the file whose app does that at its start; what the user sees, with status 8 and no URL."""
    done = by("alice", *serving(write(name, at_start=at_start, version="new")))
    assert done.returncode == 8, done.stderr
    assert done.stdout == ""
    assert said in done.stderr
    assert re.search(rf"^flytectl: revision \d+ of app '{name}' did not start: ", done.stderr, re.MULTILINE)
    return done.stderr


def falls_back(url: str, at_start: str, said: str) -> str:
    """The same for an app that serves already: it goes on as before. What the user sees."""
    before = answer("app", "get", APP)
    shown = fails(APP, at_start, said)
    assert f"revision {before['revision']} keeps serving" in shown
    status, body = curl(url)
    assert (status, '"version":"old"' in body) == (200, True)
    after = answer("app", "get", APP)
    assert (after["revision"], after["state"]) == (before["revision"], "running")
    assert after["last_failure"]["revision"] > before["revision"]
    assert "did not start" not in after["last_failure"]["reason"]  # what stands around it is said by app get
    return shown


@pytest.mark.parametrize(
    ("at_start", "said", "reason"),
    [
        (RAISES, "cannot go on", "it exited with status 1 during its start"),
        (EXITS, "last words", "it exited without an error before it was ready"),
        (KILLED, "last words", "it was terminated by signal KILL"),
    ],
    ids=["raises", "exits 0", "is killed"],
)
def test_a_new_revision_that_dies(at_start: str, said: str, reason: str, served: str) -> None:
    """Its last lines and how it ended; the revision before it keeps serving."""
    assert reason in falls_back(served, at_start, said)


def test_a_start_that_prints_without_end_still_says_why() -> None:
    """journald would drop its last lines and flyted's; the gap is told, and what stands around it is there."""
    shown = fails(FIRST, CHATTY, "the real reason")
    assert "it exited with status 1 during its start: RuntimeError: the real reason" in shown
    lines = alice("flytectl", "logs", FIRST, "-n", "200").stdout
    assert re.search(r"flyted: \d{5,6} lines of output were dropped", lines)
    assert "loading shard 149999" in lines
    alice("flytectl", "app", "delete", "--yes", "--data", FIRST)


def test_the_exception_of_a_start_up_is_the_reason_and_not_that_it_failed() -> None:
    """uvicorn's last line says only that."""
    shown = fails(FIRST, LIFESPAN, "no model")
    assert "during its start: RuntimeError: no model at /srv/m" in shown
    alice("flytectl", "app", "delete", "--yes", "--data", FIRST)


def test_a_crash_after_the_start_is_told_as_one() -> None:
    """That the start was complete is no reason, and it was not at the start."""
    url = serve(FIRST)
    curl(f"{url}/die", "--http1.1")  # by HTTP/2 HAProxy 2.6 has curl ask again and again: that is a failed app
    until(lambda: answer("app", "get", FIRST)["reason"] != "")
    reason = answer("app", "get", FIRST)["reason"]
    assert reason == "its last run exited with status 7; the next request starts it again"
    alice("flytectl", "app", "delete", "--yes", "--data", FIRST)


def test_a_secret_that_is_gone_at_a_wake_is_named() -> None:
    """Not as damage of what launch was given: with the command that brings it back, after which the app recovers."""
    alice("flytectl", "secret", "create", "START_KEY", "-", typed="a-value-of-some-length")
    url = users.serve(give("start_keyed.py", KEYED))
    alice("flytectl", "secret", "delete", "--yes", "START_KEY")
    alice("flytectl", "app", "sleep", "start-keyed")
    assert curl(url)[0] in (502, 503)
    until(lambda: answer("app", "get", "start-keyed")["state"] == "failed")
    reason = answer("app", "get", "start-keyed")["reason"]
    assert reason.startswith("it cannot start: secret 'START_KEY' is not in the store")
    assert "flytectl secret create START_KEY" in reason
    alice("flytectl", "secret", "create", "START_KEY", "-", typed="a-value-of-some-length")
    until(lambda: curl(url)[0] == 404, 60)  # the app has no page at /: it answers
    alice("flytectl", "app", "delete", "--yes", "--data", "start-keyed")
    alice("flytectl", "secret", "delete", "--yes", "START_KEY")


def test_a_new_revision_that_never_listens(served: str, impatient: int) -> None:
    """It is given up when ``start_timeout`` is over; the message names that time, and the last lines are shown."""
    shown = falls_back(served, HANGS, "last words")
    assert f"it was not ready within {impatient} s: last words" in shown
    failure = answer("app", "get", APP)["last_failure"]
    assert f"it was not ready within {impatient} s" in failure["reason"]


def test_a_first_revision_that_never_gets_ready(impatient: int) -> None:
    """An app whose own start-up never ends: nothing keeps running; it can be looked at, and deleted."""
    assert f"it was not ready within {impatient} s" in fails(FIRST, NEVER_UP, "last words")
    app = answer("app", "get", FIRST)
    assert (app["state"], app["units"]) == ("failed", [])
    alice("flytectl", "app", "delete", "--yes", "--data", FIRST)


def test_a_first_revision_that_dies() -> None:
    """The same for one that ends by itself."""
    fails(FIRST, RAISES, "cannot go on")
    app = answer("app", "get", FIRST)
    assert (app["state"], app["units"]) == ("failed", [])
    alice("flytectl", "app", "delete", "--yes", "--data", FIRST)
