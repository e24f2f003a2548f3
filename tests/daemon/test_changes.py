"""Each call that changes something leaves one entry in the journal: who, what, how it ended; names only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyted.contract import client
from flyted.contract.answers.events import STEP, Progress
from flyted.contract.answers.machine import Done
from flyted.contract.errors import FlytedError, NotFound, Unauthenticated
from flyted.daemon.api.actor import Actor
from flyted.daemon.api.verbs import APP_ARGS, Call, Right, Verb
from flyted.host import people
from flyted.plan.tokens import BROWSER, NAMED, Token
from tests.daemon.sockets import Sockets

UID = os.getuid()
ME = people.name_of(UID)
SECRET = "hunter2-never-to-be-seen"


async def change(call: Call) -> Done:
    """Changes an app."""
    call.about.tell(app=call.app.id)
    return Done()


async def fail(call: Call) -> Done:
    """Fails with a message that quotes too much."""
    call.about.tell(app=call.app.id)
    raise NotFound(f"there is no {SECRET}")


async def fault(_call: Call) -> Done:
    """A fault of ours."""
    raise ZeroDivisionError(SECRET)


async def wait(call: Call) -> Done:
    """Until the client leaves."""
    await call.emit(Progress(STEP, "begun"))
    await asyncio.Event().wait()
    return Done()


async def login(call: Call) -> Done:
    """Learns only from its arguments who calls."""
    if call.args["code"] != "right":
        raise Unauthenticated("no")
    call.about.owner = 7, "carol"
    return Done()


def owner(token: str) -> Actor:
    """Bob, by the kind of token that the text names."""
    kind = BROWSER if token == "browser" else NAMED
    return Actor(1001, 0, Token("d", "5f0c1e", kind, "bob", 1001, "", "ci", 0.0, 9e9))


class Box(Sockets):
    """Both sockets."""

    def __init__(self, folder: Path) -> None:
        self.here, self.api = folder / "control.sock", folder / "api.sock"
        verbs = {
            "app.stop": Verb(Right.OPERATE, APP_ARGS, change, changes=True),
            "app.get": Verb(Right.READ, APP_ARGS, change),
            "app.delete": Verb(Right.OPERATE, APP_ARGS, fail, changes=True),
            "app.sleep": Verb(Right.OPERATE, APP_ARGS, fault, changes=True),
            "app.start": Verb(Right.OPERATE, {}, wait, changes=True, until_gone=True),
            "secret.create": Verb(Right.SECRETS, {"key": str}, fault, changes=True, bulk=True),
            "secret.rotate": Verb(Right.ADMIN, {}, fault, changes=True),
            "login.redeem": Verb(Right.READ, {"code": str}, login, changes=True, anonymous=True),
        }
        super().__init__({self.here: None, self.api: owner}, verbs)

    def ask(self, verb: str, args: dict[str, Any] | None = None, token: str = "", bulk: bytes | None = None) -> str:
        """Calls a verb; what the newest entry says."""
        path = self.api if token else self.here
        try:
            client.call(verb, args, token=token, path=path, bulk=bulk)
        except FlytedError as error:
            assert SECRET not in error.message or verb == "app.delete"
        return dict(self.journal[-1])["MESSAGE"] if self.journal else ""


APP = {"project": "", "domain": "", "name": "hello"}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """Running."""
    made = Box(tmp_path)
    yield made
    made.stop()


def test_who_the_kernel_says(box: Box) -> None:
    """The name and the number of whoever is at the other end."""
    assert box.ask("app.stop", APP) == f"app stop hello: done, by {ME} (uid {UID})"
    fields = dict(box.journal[-1])
    assert (fields["FLYTED_ACTOR"], fields["FLYTED_ACTOR_UID"]) == (ME, str(UID))
    assert (fields["FLYTED_APP"], fields["FLYTED_VERB"], fields["FLYTED_OUTCOME"]) == ("hello", "app.stop", "done")


def test_the_owner_of_a_token(box: Box) -> None:
    """Not the gateway, which carries it."""
    assert box.ask("app.stop", APP, token="named") == "app stop hello: done, by bob (uid 1001, token 5f0c1e)"


def test_looking_leaves_nothing(box: Box) -> None:
    """Only what changes something is worth an entry."""
    assert box.ask("app.get", APP) == ""


@pytest.mark.parametrize(
    ("verb", "args", "said"),
    [("app.delete", APP, "app delete hello: not-found"), ("app.sleep", APP, "app sleep: internal"),
     ("app.stop", {}, "app stop: invalid"), ("app.stop", {**APP, "name": "No!"}, "app stop: invalid")],
)  # fmt: skip
def test_what_fails_is_told_by_its_kind(box: Box, verb: str, args: dict[str, Any], said: str) -> None:
    """The message of the error may quote anything, and stays out."""
    assert box.ask(verb, args) == f"{said}, by {ME} (uid {UID})"
    assert SECRET not in str(box.journal)


@pytest.mark.skipif(UID == 0, reason="root may do everything")
def test_what_is_refused_is_told(box: Box) -> None:
    """An attempt counts too."""
    assert box.ask("secret.rotate").startswith("secret rotate: permission, by ")


def test_a_browsers_token_that_tries_to_change_something(box: Box) -> None:
    """It is read-only."""
    assert box.ask("app.stop", APP, token="browser") == "app stop: permission, by bob (uid 1001, token 5f0c1e)"


def test_a_value_is_never_in_it(box: Box) -> None:
    """Neither as bulk nor by a fault."""
    box.ask("secret.create", {"key": "K"}, bulk=SECRET.encode())
    assert len(box.journal) == 1
    assert SECRET not in str(box.journal)


def test_a_client_that_leaves(box: Box) -> None:
    """The entry says that nobody waited for the end."""
    import socket

    from flyted.contract import wire

    with socket.socket(socket.AF_UNIX) as conn:
        conn.connect(str(box.here))
        conn.sendall(wire.encode_request("app.start", {}, ""))
        conn.recv(1)  # it has begun
    for _ in range(100):
        if box.journal:
            break
        asyncio.run(asyncio.sleep(0.05))
    assert dict(box.journal[-1])["FLYTED_OUTCOME"] == "client-left"


def test_strangers_do_not_fill_the_journal(box: Box) -> None:
    """Who has proved nothing leaves nothing; who has logged in is named."""
    with pytest.raises(Unauthenticated):
        client.call("login.redeem", {"code": "wrong"}, path=box.api)
    assert box.journal == []
    client.call("login.redeem", {"code": "right"}, path=box.api)
    assert dict(box.journal[-1])["MESSAGE"] == "login redeem: done, by carol (uid 7)"
