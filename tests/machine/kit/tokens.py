"""An app that says nothing of `requires_auth` (Flyte's default), tokens of alice's, and visits with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flyted.contract import client
from tests.machine.kit.users import alice, by, forget_apps, forget_tokens, give

SOURCE = """
from fastapi import FastAPI, Request
import flyte
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
async def root(request: Request):
    return sorted(f"{n}: {v}" for n, v in request.headers.items())

env = FastAPIAppEnvironment(
    name=%r, app=app,
    image=flyte.Image.from_debian_base(python_version=(3, 12)).with_pip_packages("fastapi", "uvicorn"),
)
"""
APP = "guarded"


@contextmanager
def guarded_app() -> Iterator[str]:
    """Where the app answers."""
    forget_apps(APP)
    by("alice", "flytectl", "token", "revoke", "--all")
    done = alice("flytectl", "serve", give("guarded.py", SOURCE % APP))
    assert "It requires a token" in done.stderr
    yield done.stdout.strip()
    alice("flytectl", "app", "delete", "--yes", "--data", APP)
    alice("flytectl", "token", "revoke", "--all")


def token(*words: str) -> str:
    """A token of alice's."""
    return alice("flytectl", "token", *words).stdout.strip()


def named(name: str, *words: str) -> str:
    """A token of alice's with a name, new."""
    forget_tokens(name)
    return token("create", "--name", name, *words)


def visit(url: str, token: str = "", *options: str, cookie: str = "") -> tuple[int, str]:
    """Status and body; the token is in no argument of any process."""
    lines = (f"Authorization: Bearer {token}\n" if token else "") + (f"Cookie: {cookie}\n" if cookie else "")
    given = ("-H", "@-") if lines else ()
    done = alice("curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", *given, *options, url, typed=lines)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def api(verb: str, token: str = "", **args: Any) -> dict[str, Any]:
    """As the gateway asks."""
    return client.call(verb, args, token=token, path=client.API_SOCKET)
