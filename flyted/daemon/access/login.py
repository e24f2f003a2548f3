"""One-time codes: with one a browser gets its cookie, and no address ever has a token in it.

A code lives in memory only, as its digest, and is gone at the first try to use it, right or wrong.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from flyted.contract.answers.machine import Done
from flyted.contract.answers.tokens import LoginLink, Minted
from flyted.contract.errors import InvalidInput, NotFound, PermissionRefused, Unauthenticated
from flyted.contract.names import GATEWAY_HOST, at_port, host_of, printable
from flyted.contract.token import digest
from flyted.daemon.access.tokens import Tokens
from flyted.daemon.api.verbs import Call, Right, Socket, Verb
from flyted.host import people
from flyted.host.store import Store
from flyted.plan.tokens import BROWSER, LIFE_S, Token

LINK_LIFE_S = 300.0
"""Seconds that a code is valid in a link that a person copies to a browser."""
PASS_LIFE_S = 60.0
"""Seconds that a code is valid in a redirect."""
MOST_CODES = 16
"""The most unused codes of one user; a new one replaces the oldest."""


@dataclass(frozen=True)
class _Code:
    uid: int
    user: str
    app_id: str
    until: float  # on the monotonic clock
    # the browser's login that the code was issued from: a token that the code is redeemed for ends with that login
    login: Token | None = None


class Logins:
    """The handlers of the login verbs, and the codes that are not used yet."""

    def __init__(self, tokens: Tokens, store: Store, base_domain: str, port: Callable[[], int]) -> None:
        self._tokens = tokens
        self._store = store
        self._base_domain = base_domain
        self._port = port
        self._codes: dict[str, _Code] = {}

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table."""
        api = frozenset({Socket.API})
        redeem = {"code": str, "app_id": str}
        return {
            "login.create": Verb(Right.READ, {}, self.create, sockets=frozenset({Socket.CONTROL}), changes=True),
            "login.redeem": Verb(Right.READ, redeem, self.redeem, sockets=api, anonymous=True, changes=True),
            "login.pass": Verb(Right.READ, {"app_id": str}, self.pass_on, sockets=api, changes=True),
            "login.end": Verb(Right.READ, {}, self.end, sockets=api, changes=True),
        }

    async def create(self, call: Call) -> LoginLink:
        """Make a code for the gateway's pages, for the caller: flytectl login makes a link of it.

        Raises :class:`PermissionRefused` for a user who is not in group flyted any more.
        """
        uid = call.actor.uid
        user = people.name_of(uid)
        if not people.may_operate(uid, user):
            raise PermissionRefused(
                f"{user} is not, or no longer, in group 'flyted'", hint="sudo adduser $USER flyted"
            )
        code, until = self._new(uid, user, "", LINK_LIFE_S)
        return LoginLink(f"https://{at_port(GATEWAY_HOST, self._port())}/login?code={code}", until, code)

    async def pass_on(self, call: Call) -> LoginLink:
        """Make a code for an app (its id, or its host name), for a browser that is logged in to the gateway's pages.

        Raises :class:`PermissionRefused` for any other caller, :class:`NotFound` when there is no such app.
        """
        token = call.actor.token
        if token is None or token.kind != BROWSER:
            raise PermissionRefused("only a browser's login is passed on to an app", hint="flytectl login")
        name = call.args["app_id"].removesuffix(f".{self._base_domain}")
        if name not in self._store.ids():
            raise NotFound(f"there is no app {printable(name)}", hint="flytectl app ls")
        call.about.tell(app=name)
        host = at_port(host_of(name, self._base_domain), self._port())
        code, until = self._new(token.uid, token.user, name, PASS_LIFE_S, token)
        return LoginLink(f"https://{host}/.flyted/session", until, code)

    async def redeem(self, call: Call) -> Minted:
        """Return a browser's token for a code: once, and only for the app that the code was made for.

        Raises :class:`Unauthenticated` for a code that is not valid, or whose login is over, and
        :class:`PermissionRefused` for a user who is not in group flyted any more.
        """
        code = self._codes.pop(digest(call.args["code"]), None)
        if code is None or code.until <= time.monotonic() or code.app_id != call.args["app_id"]:
            raise Unauthenticated("this login link has been used already or has expired", hint="flytectl login")
        call.about.owner = code.uid, code.user
        call.about.tell(app=filter(None, [code.app_id]))
        life, name = LIFE_S[BROWSER], ""
        if code.login is not None:
            self._tokens.still_there(code.login)
            life, name = code.login.expires_at - time.time(), code.login.id
        made, token = await self._tokens.issue((code.uid, code.user), BROWSER, life, code.app_id, name)
        call.about.tell(token=token.id)
        return Minted(made, token.user, token.expires_at)

    async def end(self, call: Call) -> Done:
        """Log out: end the token that this was called with, and the apps' tokens that came of it.

        Raises :class:`InvalidInput` without a token, :class:`IngressDown` when the ingress cannot be updated.
        """
        if call.actor.token is None:
            raise InvalidInput("login.end needs a token")
        await self._tokens.forget(call.actor.token)
        return Done()

    def _new(self, uid: int, user: str, app_id: str, life_s: float, login: Token | None = None) -> tuple[str, float]:
        """Make a code; return it, and the time (seconds since 1970) until which it works."""
        now = time.monotonic()
        self._codes = {d: c for d, c in self._codes.items() if c.until > now}
        own = [d for d, c in self._codes.items() if c.uid == uid]
        for old in own[: max(0, len(own) + 1 - MOST_CODES)]:
            del self._codes[old]
        made = os.urandom(32).hex()
        self._codes[digest(made)] = _Code(uid, user, app_id, now + life_s, login)
        return made, time.time() + life_s
