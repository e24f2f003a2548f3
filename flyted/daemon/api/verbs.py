"""Defines a verb of the control socket: its right, the arguments that it takes, and its handler.

A verb without a right cannot be written down; unknown, missing and ill-typed arguments are refused before any
handler sees them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from flyted.base import tasks
from flyted.contract.answers.codec import Answer
from flyted.contract.answers.events import Event
from flyted.contract.errors import InvalidInput
from flyted.contract.names import DEFAULT_DOMAIN, DEFAULT_PROJECT, AppKey, SecretScope, printable, secret_key
from flyted.daemon.api.actor import Actor, Right, Socket
from flyted.daemon.api.outbox import ClientGone

__all__ = [
    "APP_ARGS", "SECRET_ARGS", "About", "Call", "Emit", "Handler", "Right", "Socket", "Verb", "WhileThere",
    "to_its_end",
]  # fmt: skip

_T = TypeVar("_T")


Emit = Callable[[Event], Awaitable[None]]
"""A function that sends an event to the client, or to all callers that wait for the same work."""


class WhileThere(Protocol):
    """A function that does work for somebody, and may end it by an error when that one leaves."""

    async def __call__(self, work: Awaitable[_T], /) -> _T:
        """Return what the work returns."""


async def to_its_end(work: Awaitable[_T], /) -> _T:
    """Return what the work returns, whoever leaves: a :class:`WhileThere`."""
    return await work


async def _never() -> None:
    await asyncio.Event().wait()


async def to_nobody(_event: Event) -> None:
    """Send an event to nobody."""


@dataclass
class About:
    """What a handler reports to the journal about its change: names by kind, never a value or a token.

    ``outcome``: a word for a good end that is not plainly "done". ``owner``: (uid, name) of a caller whom only the
    handler can know.
    """

    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    outcome: str = ""
    owner: tuple[int, str] | None = None

    def tell(self, **names: str | Iterable[str]) -> None:
        """Name what is changed: ``app="hello"``, or several of a kind."""
        for kind, name in names.items():
            self.names[kind] = (name,) if isinstance(name, str) else tuple(name)


@dataclass(frozen=True)
class Call:
    """One checked request, for its handler.

    ``bundles``: SHA-256 → descriptor of what is said to be that file, closed when the handler has returned. ``file``:
    a descriptor that the verb reads or writes, likewise; whatever the client has opened.
    ``emit``: has an event sent in its turn; neither a client that left nor one that reads slowly stops the work.
    ``send``: sends an event, and returns when the client has read it. Raises :class:`ClientGone`. ``gone()``: returns
    when the client has left.
    """

    actor: Actor
    args: dict[str, Any]
    bulk: bytes
    bundles: Mapping[str, int]
    emit: Emit
    about: About = field(default_factory=About)
    gone: Callable[[], Awaitable[object]] = _never
    send: Emit = to_nobody
    file: int | None = None

    async def while_there(self, work: Awaitable[_T], /) -> _T:
        """Return what the work returns. If the client leaves first, end it and raise :class:`ClientGone`."""
        try:
            return await tasks.until(self.gone(), work)
        except tasks.Left:
            raise ClientGone from None

    @property
    def app(self) -> AppKey:
        """The app that the arguments name. Raises :class:`InvalidInput`."""
        args = self.args
        return AppKey(args["project"] or DEFAULT_PROJECT, args["domain"] or DEFAULT_DOMAIN, args["name"])

    @property
    def scope(self) -> SecretScope:
        """The scope that the arguments name. Raises :class:`InvalidInput`."""
        return SecretScope(self.args["project"], self.args["domain"])

    @property
    def key(self) -> str:
        """The secret key that the arguments name. Raises :class:`InvalidInput`."""
        return secret_key(self.args["key"])


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True)
class Verb:
    """One row of the verb table. ``args``: name → type; all are required, nothing else is taken.

    ``bulk``: bytes follow the request. ``bundles``: files come with it. ``file``: one file does, to be read or
    written. ``until_gone``: the verb ends when its client leaves. ``changes``: each call leaves an entry in the
    journal (changes.py). ``sockets``: the sockets that take it. ``anonymous``: the api socket takes it without a
    token.
    """

    right: Right
    args: Mapping[str, type]
    handler: Handler
    bulk: bool = False
    bundles: bool = False
    file: bool = False
    until_gone: bool = False
    changes: bool = False
    sockets: frozenset[Socket] = frozenset(Socket)
    anonymous: bool = False

    def check(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments. Raises :class:`InvalidInput`, which names the wrong one."""
        brought: dict[str, type] = {"bulk": int} if self.bulk else {}
        brought |= {"bundles": list} if self.bundles else {}
        wanted = {**self.args, **brought, **({"files": int} if self.file else {})}
        for name in sorted(set(args) ^ set(wanted)):
            known = "is missing" if name in wanted else "is not known"
            raise InvalidInput(
                f"argument {printable(name)} {known}", hint="install flytectl and flyted of the same version"
            )
        for name, kind in wanted.items():
            if type(args[name]) is not kind:
                raise InvalidInput(f"argument {name} must be {kind.__name__}")
        return args


SECRET_ARGS: Mapping[str, type] = {"project": str, "domain": str, "key": str}
APP_ARGS: Mapping[str, type] = {"project": str, "domain": str, "name": str}
