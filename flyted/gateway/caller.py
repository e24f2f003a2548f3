"""Identifies the sender of a request, by the ingress's headers and, for the token, by asking flyted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flyted.base import tasks
from flyted.contract.errors import Busy, InvalidInput, PermissionRefused, Unauthenticated
from flyted.contract.names import GATEWAY_HOST, at_port
from flyted.contract.token import valid_shape

T = TypeVar("T")

_HELP = "run: flytectl config init; the flyte command then gets its tokens from `flytectl token`"


@dataclass(eq=False)
class Caller:
    """The origin of one request. ``gone`` is set when the client has closed its connection."""

    host: str = GATEWAY_HOST  # the name that it used; at another base domain, with the port if it named one
    local: bool = False
    https_port: int = 443
    http_port: int = 80
    token: str = field(default="", repr=False)
    user: str = ""
    uid: int = -1
    rights: frozenset[str] = frozenset()
    held: int = 0  # bytes of memory that its message takes
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    receive: Callable[[], Awaitable[object]] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """The address to which it sends files: unencrypted only to a name that means this machine for every client."""
        if self.host != GATEWAY_HOST:
            return f"https://{self.host}"  # with the port that the client knows
        scheme, port, usual = ("http", self.http_port, 80) if self.local else ("https", self.https_port, 443)
        return f"{scheme}://{at_port(self.host, port, usual)}"

    async def while_there(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for ``work``, but not after the client has left: it is cancelled then."""
        with contextlib.suppress(tasks.Left):
            await tasks.until(self.gone.wait(), work)

    async def left(self) -> None:
        """Wait until the client has closed its connection. Only for a call whose whole message has been read."""
        listening = tasks.begin(self._listen())
        try:
            await self.gone.wait()
        finally:
            await tasks.end(listening)

    async def until_left(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` returns. If the client leaves before, cancel it and raise :class:`Busy`.

        Only for a call whose whole message has been read.
        """
        try:
            return await tasks.until(self.left(), work)
        except tasks.Left:
            raise Busy("the client disconnected before this was done") from None

    async def _listen(self) -> None:
        while self.receive is not None and not self.gone.is_set():
            await self.receive()  # a disconnect sets self.gone (services/registry.py)


_caller: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Return the caller of the request that is being answered."""
    return _caller.get()


def may_operate() -> None:
    """Raise :class:`PermissionRefused` unless the caller's token may operate apps.

    It is for operations of the gateway's own: those that call a verb of flyted are checked there.
    """
    if "operate" not in caller().rights:
        raise PermissionRefused("this token is read-only", hint=_HELP)


def enter(who: Caller) -> None:
    """Make ``who`` the caller of the request that this task answers."""
    _caller.set(who)


def texts(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by lower-case name; the values of a repeated header are joined.

    Raise :class:`InvalidInput` for a header that is not UTF-8.
    """
    found: dict[str, str] = {}
    try:
        for raw, value in headers:
            name = raw.decode("ascii").lower()
            between = "; " if name == "cookie" else ", "
            found[name] = f"{found[name]}{between}{value.decode()}" if name in found else value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("a header is not UTF-8 text") from error
    return found


def of_request(headers: dict[str, str]) -> Caller:
    """Return the origin of a request by the headers that only the ingress can have written.

    The ingress deletes every copy of them that comes from outside.
    """
    ports = headers.get("x-flyted-ports", "").split()
    known = len(ports) == 2 and all(port.isascii() and port.isdigit() for port in ports)
    https_port, http_port = (int(ports[0]), int(ports[1])) if known else (443, 80)
    return Caller(
        headers.get("x-flyted-host", GATEWAY_HOST), headers.get("x-flyted-local") == "1",
        https_port=https_port, http_port=http_port,
    )  # fmt: skip


def bearer(headers: dict[str, str]) -> str:
    """Return the token of a request, which flyted still has to check.

    Raise :class:`Unauthenticated` for a request without a token, or with a text that cannot be one.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("a token is required", hint=_HELP)
    if not valid_shape(token.strip()):
        raise Unauthenticated("this is not a flyted token", hint=_HELP)
    return token.strip()
