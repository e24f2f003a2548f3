"""Handles the token verbs, and finds a token's owner. A token's text leaves the daemon once, when it is created."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from typing import Any

from flyted.contract import token as text
from flyted.contract.answers.tokens import Created, Minted, TokenList, TokenStatus, WhoAmI
from flyted.contract.errors import (
    AlreadyExists,
    FlytedError,
    HostFailure,
    IngressDown,
    InvalidInput,
    NotFound,
    PermissionRefused,
    Unauthenticated,
)
from flyted.contract.names import DEFAULT_DOMAIN, DEFAULT_PROJECT, AppKey, printable
from flyted.daemon.access.ingress_tokens import IngressTokens
from flyted.daemon.api.actor import Actor
from flyted.daemon.api.verbs import Call, Right, Socket, Verb
from flyted.host import people
from flyted.host.store import Store
from flyted.host.tokens import Tokens as Table
from flyted.plan.tokens import LIFE_S, LONGEST_S, NAMED, SESSION, Token, counts, derived_tokens, newly_used, room_for

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_HINT = "get one: flytectl token (in group flyted), and send it as Authorization: Bearer"


class Tokens:
    """The handlers of the token verbs, over the table; ``ingress_tokens`` updates the ingress."""

    def __init__(self, table: Table, store: Store, ingress_tokens: IngressTokens) -> None:
        self._table = table
        self._store = store
        self._ingress_tokens = ingress_tokens

    def verbs(self) -> dict[str, Verb]:
        """Return the rows of the verb table.

        Only callers in person make tokens: so no token's life is prolonged by making another with it.
        """
        here = frozenset({Socket.CONTROL})
        create = {"name": str, "expires_s": int, "project": str, "domain": str, "app": str}
        return {
            "whoami": Verb(Right.READ, {}, self.whoami),
            "token.mint": Verb(Right.OPERATE, {}, self.mint, sockets=here, changes=True),
            "token.create": Verb(Right.OPERATE, create, self.create, sockets=here, changes=True),
            "token.list": Verb(Right.READ, {}, self.list_all, sockets=here),
            "token.revoke": Verb(Right.OPERATE, {"token": str, "all": bool}, self.revoke, sockets=here, changes=True),
        }

    def owner(self, token: str) -> Actor:
        """Return the owner of this token, if that is root or a member of group flyted now.

        Raises :class:`Unauthenticated`, which does not say what is wrong with the token.
        """
        try:
            found = self._table.find(text.digest(token)) if text.valid_shape(token) else None
        except NotFound:
            found = None
        if found is None or not counts(found, time.time()) or not people.may_operate(found.uid, found.user):
            raise Unauthenticated(
                "a valid token is required" if not token else "this token is not valid, or no longer valid", hint=_HINT
            )
        with contextlib.suppress(HostFailure):  # a full disk does not lock users out
            self._table.used(newly_used([found], {found.digest: time.time()}))
        return Actor(found.uid, 0, found)

    async def issue(
        self, owner: tuple[int, str], kind: str, life_s: float, app_id: str = "", name: str = "",
        *, forget: frozenset[str] = frozenset(),
    ) -> tuple[str, Token]:  # fmt: skip
        """Make a token for a user (uid, name) and ``life_s`` seconds; return its text, and what is stored of it.

        ``forget``: the digests of tokens that are deleted in the same transaction. Raises :class:`PermissionRefused`
        for a user who is not in group flyted (any more), :class:`LimitReached` for one who has too many.
        """
        uid, user = owner
        if not people.may_operate(uid, user):
            raise PermissionRefused(
                f"user {user} is not, or no longer, in group 'flyted': a token would give no access",
                hint="sudo adduser $USER flyted",
            )
        self._ingress_tokens.sweep()
        made, now = text.new(os.urandom(text.RANDOM_BYTES)), time.time()
        token = Token(text.digest(made), os.urandom(6).hex(), kind, user, uid, app_id, name, now, now + life_s)
        self._table.add(token, forget=forget | room_for(kind, uid, self._table.all(), now))
        try:
            await self._ingress_tokens.apply()
        except IngressDown as error:
            log.warning("the ingress does not know the newest token yet: %s", error.message)
        return made, token

    async def forget(self, *tokens: Token) -> None:
        """Delete tokens, with the apps' cookies that a login led to, here and at the ingress.

        Raises :class:`IngressDown` when the ingress cannot be updated.
        """
        every = self._table.all()
        self._table.remove(frozenset().union(*({t.digest} | derived_tokens(t, every) for t in tokens)))
        await self._ingress_tokens.apply()

    def still_there(self, token: Token) -> None:
        """Raise :class:`Unauthenticated` if a token was revoked meanwhile, or has expired."""
        with contextlib.suppress(NotFound):
            if counts(self._table.find(token.digest), time.time()):
                return
        raise Unauthenticated("this login has ended", hint="flytectl login")

    async def whoami(self, call: Call) -> WhoAmI:
        """Return who calls, and with which rights."""
        token = call.actor.token
        return WhoAmI(
            user=token.user if token else people.name_of(call.actor.uid), uid=call.actor.uid,
            rights=tuple(sorted(right.value for right in call.actor.rights)),
            kind=token.kind if token else "", expires_at=token.expires_at if token else 0.0,
        )  # fmt: skip

    async def mint(self, call: Call) -> Minted:
        """Make a token that lives for an hour, for the caller. Raises as :meth:`issue`."""
        owner = (call.actor.uid, people.name_of(call.actor.uid))
        made, token = await self.issue(owner, SESSION, LIFE_S[SESSION])
        call.about.tell(token=token.id)
        return Minted(made, token.user, token.expires_at)

    async def create(self, call: Call) -> Created:
        """Make a token with a name, for another machine; with ``app``, one that opens that app and nothing else.

        Raises :class:`InvalidInput` for a bad name or life, :class:`AlreadyExists` for a name in use,
        :class:`NotFound` when there is no such app, and as :meth:`issue`.
        """
        args, life = call.args, call.args["expires_s"]
        if _NAME.fullmatch(args["name"]) is None:
            raise InvalidInput(
                f"token name {printable(args['name'])} is not valid", hint="use 1-64 of A-Z, a-z, 0-9, _.-"
            )
        if not 1 <= life <= LONGEST_S:
            raise InvalidInput("a token's lifetime must be 1 second to 366 days", hint="--expires 90d")
        uid, user = call.actor.uid, people.name_of(call.actor.uid)
        self._ingress_tokens.sweep()
        same = [t for t in self._table.all() if t.uid == uid and t.kind == NAMED and t.name == args["name"]]
        if any(counts(t, time.time()) for t in same):
            raise AlreadyExists(
                f"you already have a token '{args['name']}'", hint=f"flytectl token revoke {args['name']}"
            )
        call.about.tell(name=args["name"])
        app_id = self._app_id(args) if args["app"] else ""
        call.about.tell(app=filter(None, [app_id]))
        made, token = await self.issue(
            (uid, user), NAMED, life, app_id, args["name"], forget=frozenset(t.digest for t in same)
        )
        call.about.tell(token=token.id)
        return Created(made, _status(token))

    async def list_all(self, call: Call) -> TokenList:
        """Return the caller's tokens, or all for root; never their text, which is not stored."""
        with contextlib.suppress(FlytedError):
            await self._ingress_tokens.note_uses()
        return TokenList(tuple(_status(t) for t in self._visible(call.actor) if counts(t, time.time())))

    async def revoke(self, call: Call) -> TokenList:
        """Revoke tokens, here and at the ingress: all, or one by its name, its id or (found somewhere) its text.

        Raises :class:`NotFound`, :class:`InvalidInput` for a name that several users have, and :class:`IngressDown`
        when the ingress cannot be updated.
        """
        found = self._visible(call.actor) if call.args["all"] else [self._one(call.args["token"], call.actor)]
        call.about.tell(token=(t.id for t in found), name=filter(None, map(_name, found)))
        await self.forget(*found)
        return TokenList(tuple(map(_status, found)))

    def _one(self, word: str, actor: Actor) -> Token:
        found = self._named(word, actor)
        own = [t for t in found if t.uid == actor.uid] or found
        if not own:
            raise NotFound(f"you have no token {printable(word[:16])}", hint="flytectl token ls")
        if len(own) > 1:
            raise InvalidInput(f"several users have a token '{own[0].name}'", hint="flytectl token revoke ID")
        return own[0]

    def _named(self, word: str, actor: Actor) -> list[Token]:
        """Return the tokens that are meant. Anybody with a token's text may revoke it: they could also use it."""
        if text.valid_shape(word):
            return [t for t in self._table.all() if t.digest == text.digest(word)]
        return [t for t in self._visible(actor) if word and word in (t.id, _name(t))]

    def _visible(self, actor: Actor) -> list[Token]:
        return [t for t in self._table.all() if actor.root or t.uid == actor.uid]

    def _app_id(self, args: dict[str, Any]) -> str:
        key = AppKey(args["project"] or DEFAULT_PROJECT, args["domain"] or DEFAULT_DOMAIN, args["app"])
        found = self._store.find(key)
        if found is None:
            raise NotFound(f"there is no app '{key}'", hint="flytectl app ls")
        return found.key.id


def _name(token: Token) -> str:
    return token.name if token.kind == NAMED else ""


def _status(token: Token) -> TokenStatus:
    return TokenStatus(
        id=token.id, kind=token.kind, name=_name(token), user=token.user, app=token.app_id,
        created_at=token.created_at, expires_at=token.expires_at, used_at=token.used_at,
    )  # fmt: skip
