"""The control and the api socket: who calls → right → verb → answer. Errors leave the daemon here, formatted once.

Access is checked twice: the socket's mode, which systemd sets, decides who may connect at all, the verb's right what
they may do. On the control socket (root:flyted) the kernel says who calls. On the api socket (root:flyted-gateway) the
peer itself has no right at all: each request brings a token, and the token's owner is who calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Callable, Mapping

from flyted.base import tasks
from flyted.contract import wire
from flyted.contract.answers.codec import Answer
from flyted.contract.errors import Busy, Cancelled, FlytedError, InvalidInput, PermissionRefused
from flyted.contract.names import printable
from flyted.daemon.api.actor import NOBODY, Actor
from flyted.daemon.api.changes import Write, recorded
from flyted.daemon.api.connection import Connection
from flyted.daemon.api.outbox import ClientGone
from flyted.daemon.api.verbs import Call, Socket, Verb
from flyted.host import journald, people
from flyted.plan.crowd import Place, admit, may_hold

log = logging.getLogger(__name__)

MAX_API = 256  # the gateway's connections: one per request of a client, for as long as a stream lasts

Owner = Callable[[str], Actor]
"""A function that says whose a token is. Raises :class:`Unauthenticated`."""


class Control:
    """A server of the verbs on a listening socket: the api socket if ``owner`` is given, else the control socket.

    ``record`` writes an entry for each change.
    """

    def __init__(
        self,
        listener: socket.socket,
        verbs: Mapping[str, Verb],
        owner: Owner | None = None,
        record: Write = journald.write,
    ) -> None:
        listener.settimeout(0)
        self._listener = listener
        self._verbs = verbs
        self._owner = owner
        self._record = record
        self._open: dict[Connection, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                conn, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                log.error("accept: %s", error)  # noqa: TRY400
                await asyncio.sleep(1)  # out of descriptors: some are closed meanwhile
                continue
            connection = Connection(conn, self._may_hold)
            if self._owner is None and people.is_account(connection.actor.uid):
                connection.user = connection.actor.uid
            connection.refused = self._admit(connection)
            task = tasks.begin(self._serve(connection))
            self._open[connection] = task
            task.add_done_callback(functools.partial(self._close, connection))

    def _admit(self, new: Connection) -> str:
        """Return why a new connection is refused, "" if it is not. An idle one may be ended for it."""
        if self._owner is not None:  # all are the gateway's, which limits its users itself
            return "flyted has too many clients at once" if len(self._open) >= MAX_API else ""
        answer = admit([Place(c.user, c.asked) for c in self._open], new.user)
        if answer.ended is not None:
            self._open.pop(list(self._open)[answer.ended]).cancel()
        return answer.refused

    def _may_hold(self, connection: Connection, more: int) -> bool:
        held: dict[int, int] = {}
        for each in self._open:
            held[each.user] = held.get(each.user, 0) + each.held
        return may_hold(held, connection.user, more)

    async def _serve(self, connection: Connection) -> None:
        with contextlib.suppress(ClientGone):
            await self._answer(connection)

    def _close(self, connection: Connection, _task: asyncio.Task[None]) -> None:
        """Close a connection after its task, even one that was cancelled before it began."""
        self._open.pop(connection, None)
        connection.close()

    async def _answer(self, connection: Connection) -> None:
        try:
            _check_admitted(connection)
            request, bulk = await connection.request()
            result = await self._call(connection, request, bulk)
        except FlytedError as error:
            await connection.send_frame(wire.error_frame(error))
        except ClientGone:  # it may have closed its own side only, to be told what became of its request
            await connection.send_frame(wire.error_frame(Cancelled("the client left")))
        except Exception:
            log.exception("a verb failed")
            fault = FlytedError("internal error in flyted", hint="journalctl -u flyted -n 50, and report it")
            await connection.send_frame(wire.error_frame(fault))
        else:
            await connection.send({"result": result})

    async def _call(self, connection: Connection, request: wire.Request, bulk: bytes) -> Answer:
        actor = self._actor(connection, request)
        verb = self._verb(request)
        with recorded(self._record, request.verb, verb, actor) as about:
            _check_right(request.verb, verb, actor)
            args, bundles = verb.check(request.args), dict(zip(request.bundles, connection.fds, strict=False))
            call = Call(
                actor, args, bulk, bundles, file=connection.fds[-1] if request.files else None,
                emit=lambda event: connection.post({"event": event}),
                send=lambda event: connection.send({"event": event}),
                about=about, gone=connection.gone,
            )  # fmt: skip
            return await (call.while_there(verb.handler(call)) if verb.until_gone else verb.handler(call))

    def _actor(self, connection: Connection, request: wire.Request) -> Actor:
        """Return the caller. Without a token, the api socket does not reveal which verbs exist.

        Raises :class:`Unauthenticated`, or :class:`InvalidInput` for a token on the control socket.
        """
        if self._owner is None:
            if request.token:
                raise InvalidInput("the control socket takes no tokens: the kernel identifies the caller")
            return connection.actor
        verb = self._verbs.get(request.verb)
        return NOBODY if verb is not None and verb.anonymous else self._owner(request.token)

    def _verb(self, request: wire.Request) -> Verb:
        """Return the verb that was asked for. Raises :class:`InvalidInput` if this socket has no such verb."""
        verb = self._verbs.get(request.verb)
        here = Socket.CONTROL if self._owner is None else Socket.API
        if verb is None or here not in verb.sockets:
            raise InvalidInput(
                f"flyted knows no verb {printable(request.verb)} on this socket",
                hint="install flytectl and flyted of the same version",
            )
        return verb


def _check_right(name: str, verb: Verb, actor: Actor) -> None:
    if actor is NOBODY or verb.right in actor.rights:
        return
    if actor.token is not None:
        raise PermissionRefused(f"this token does not permit {name}", hint="flytectl token create --help")
    raise PermissionRefused(f"{name} requires root", hint="use sudo")


def _check_admitted(connection: Connection) -> None:
    if connection.refused:
        raise Busy(connection.refused, hint="end one (such as flytectl logs -f), or try again later")
