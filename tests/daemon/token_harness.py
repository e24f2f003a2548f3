"""The daemon's parts that know tokens, over the real sockets, with the real table."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyted.contract import client
from flyted.contract.answers.events import Event
from flyted.contract.answers.machine import Done
from flyted.daemon.access.ingress_tokens import IngressTokens, wanted
from flyted.daemon.access.login import Logins
from flyted.daemon.access.tokens import Tokens
from flyted.daemon.api.actor import Actor
from flyted.daemon.api.verbs import Call, Right, Verb
from flyted.host import people
from flyted.host.ingress import Ingress
from flyted.host.tokens import Tokens as Table
from flyted.plan.facts import ImageFact
from tests.answers import sent
from tests.daemon.clocks import FakeClock
from tests.daemon.sockets import Sockets
from tests.daemon.stand_ins import FakeWatch, quick_store
from tests.values import spec

BOB, CAROL, ME = (1001, "bob"), (1002, "carol"), (os.getuid(), people.name_of(os.getuid()))


async def done(_call: Call) -> Done:
    """A verb that needs a right and does nothing."""
    return Done()


class Box:
    """The daemon's parts that know tokens, on two sockets. The name service is a set of (uid, name)."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.members = {BOB, CAROL, ME, (0, "root")}
        names = dict([BOB, CAROL, ME, (0, "root")])
        monkeypatch.setattr(people, "may_operate", lambda uid, name: (uid, name) in self.members)
        monkeypatch.setattr(people, "name_of", lambda uid: names.get(uid, str(uid)))
        self.store = quick_store(folder / "flyted.db")
        for name in ("web", "other"):
            self.store.add_revision(spec(name), ImageFact("/i"), "f", 1.0)
        self.table = Table(self.store.database)
        (folder / "ingress").mkdir()
        self.ingress = Ingress(folder / "admin.sock", folder / "ingress", tokens=self.wanted)
        self.watch = FakeWatch()
        monkeypatch.setattr(people, "in_files", lambda: True)
        self.clock = FakeClock(lambda: time.time())  # noqa: PLW0108  a test may set the time
        self.ingress_tokens = self.ingress_tokens_over(self.ingress, lambda: False)
        self.tokens = Tokens(self.table, self.store, self.ingress_tokens)
        self.logins = Logins(self.tokens, self.store, "apps.localhost", lambda: 8443)
        self.verbs = {
            "version": Verb(Right.READ, {}, done, anonymous=True),
            "app.list": Verb(Right.READ, {}, done),
            "app.stop": Verb(Right.OPERATE, {}, done),
            "secret.delete": Verb(Right.SECRETS, {}, done),
            "secret.accept-rollback": Verb(Right.ADMIN, {}, done),
            **self.tokens.verbs(),
            **self.logins.verbs(),
        }

    def ingress_tokens_over(self, ingress: Ingress, runs: Callable[[], bool]) -> IngressTokens:
        """What keeps the table of an ingress true."""
        return IngressTokens(self.table, self.store, ingress, runs, self.clock, self.watch, lambda: None)

    def close(self) -> None:
        """Closes the store."""
        self.store.close()

    def wanted(self) -> dict[str, str]:
        """The ingress's table as it should be now."""
        return wanted(self.table, self.clock)

    def ask(self, who: tuple[int, str], verb: str, **args: Any) -> dict[str, Any]:
        """A verb on behalf of somebody whom the kernel would know."""
        return self.as_actor(Actor(who[0], 1), verb, **args)

    def as_actor(self, actor: Actor, verb: str, **args: Any) -> dict[str, Any]:
        """A verb on behalf of an actor."""

        async def nowhere(_event: Event) -> None:
            """No events are wanted."""

        row = self.verbs[verb]
        return dict(asyncio.run(_run(row, Call(actor, row.check(args), b"", {}, nowhere))))

    def create(self, who: tuple[int, str], name: str, expires_s: int = 60, app: str = "") -> str:
        """A named token's text."""
        args = {"name": name, "expires_s": expires_s, "project": "", "domain": "", "app": app}
        return str(self.ask(who, "token.create", **args)["token"])

    def written(self) -> str:
        """The ingress's table on disk."""
        return (self.folder / "ingress/tokens.map").read_text()


async def _run(verb: Verb, call: Call) -> dict[str, Any]:
    return sent(await verb.handler(call))


class BothSockets(Sockets):
    """The control and the api socket."""

    def __init__(self, box: Box) -> None:
        self.control, self.api = box.folder / "control.sock", box.folder / "api.sock"
        super().__init__({self.control: None, self.api: box.tokens.owner}, box.verbs)

    def call(self, verb: str, token: str = "", **args: Any) -> dict[str, Any]:
        """On the api socket."""
        return client.call(verb, args, token=token, path=self.api)


def link(box: Box, who: tuple[int, str] = BOB) -> str:
    """The code of a login link."""
    answer = box.ask(who, "login.create")
    assert answer["url"] == f"https://flyted.localhost:8443/login?code={answer['code']}"
    return str(answer["code"])


def redeem(box: Box, code: str, app_id: str = "") -> str:
    """A browser's token for a code."""
    return str(box.ask((-1, ""), "login.redeem", code=code, app_id=app_id)["token"])


def logged_in(box: Box) -> tuple[Actor, str]:
    """Somebody at the pages, and their cookie for app web."""
    pages = box.tokens.owner(redeem(box, link(box)))
    return pages, redeem(box, box.as_actor(pages, "login.pass", app_id="web")["code"], "web")
