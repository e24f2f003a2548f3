"""Calls flyted: one connection per verb, on the socket where only a caller's token has rights.

The protocol is that of ``contract/wire.py``. Unlike ``contract/client.py`` this client waits without a thread, since
many clients may follow logs at once. A cancelled call closes its connection, and flyted then ends what waits for the
client (a followed log, a stop, a deletion, the build of an image), but finishes a deploy.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from flyted.contract import wire
from flyted.contract.answers.codec import Answer, from_wire
from flyted.contract.answers.events import Event, event_of
from flyted.contract.answers.tokens import WhoAmI
from flyted.contract.client import API_SOCKET
from flyted.contract.errors import DaemonUnavailable
from flyted.gateway.caller import caller
from flyted.gateway.slots import Slots
from flyted.plan.crowd import Room

Kind = TypeVar("Kind", bound=Answer)
OnEvent = Callable[[Event], None]
SHORT, LONG = Room(users=64, shared=24, of_a_user=12), Room(users=96, shared=48, of_a_user=12)
"""Connections at a time, shared among callers: a short call must not wait for deploys and followed logs of others."""
_LONG = frozenset({"app.serve", "app.start", "app.stop", "app.delete", "app.logs", "image.build"})


class Daemon:
    """A client of flyted."""

    def __init__(self, path: Path = API_SOCKET) -> None:
        self._path = path
        self._short, self._long = Slots(SHORT), Slots(LONG)

    async def call(
        self,
        kind: type[Kind],
        verb: str,
        args: dict[str, Any] | None = None,
        *,
        token: str = "",
        bulk: bytes | None = None,
        bundles: Mapping[str, int] | None = None,
        on_event: OnEvent | None = None,
    ) -> Kind:
        """Call one verb for the owner of ``token`` and return its answer, of class ``kind``; see ``contract.client``.

        Wait while the caller has as many connections as it may have. Raise the daemon's error as it was raised there,
        :class:`DaemonUnavailable` if it does not answer, :class:`~flyted.contract.errors.InvalidInput` for a request
        that carries too much, and :class:`~flyted.contract.errors.ProtocolMismatch` for an answer that cannot be read.
        """
        digests = None if bundles is None else list(bundles)
        data = wire.encode_request(verb, args or {}, token, bulk=bulk, bundles=digests) + (bulk or b"")
        fds = list((bundles or {}).values())
        async with (self._long if verb in _LONG else self._short).slot(caller().uid):
            with socket.socket(socket.AF_UNIX) as conn:
                conn.setblocking(False)  # noqa: FBT003
                try:
                    return from_wire(kind, await _exchange(conn, self._path, data, fds, on_event))
                except OSError as error:
                    raise _unavailable(error.strerror or type(error).__name__) from error

    async def whose(self, token: str) -> None:
        """Note in the current caller who the owner of ``token`` is, and with which rights. Raise as :meth:`call`."""
        found = await self.call(WhoAmI, "whoami", token=token)
        who = caller()
        who.token = token
        who.user, who.uid = found.user, found.uid
        who.rights = frozenset(found.rights)


async def _exchange(
    conn: socket.socket, path: Path, data: bytes, fds: Sequence[int], on_event: OnEvent | None
) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(conn, os.fspath(path))
    try:
        # a new socket's buffer holds the beginning, and the descriptors travel with it
        sent = socket.send_fds(conn, [data], fds) if fds else 0
        await loop.sock_sendall(conn, data[sent:])
    except (BrokenPipeError, ConnectionResetError):
        pass  # flyted refused before it had read all: the reason is waiting to be read
    while True:
        head = await _exactly(conn, wire.HEAD.size)
        body = await _exactly(conn, wire.length(head, wire.ANSWER_LIMIT))
        kind, answer = wire.parse_answer(wire.decode(body, trusted=True))
        if kind == "result":
            return answer
        if on_event is not None:
            on_event(event_of(answer))
        await asyncio.sleep(0)  # what has come already is read without a pause: others have their turn, too


async def _exactly(conn: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = await asyncio.get_running_loop().sock_recv(conn, min(size - len(data), 1 << 16))
        if not chunk:
            raise _unavailable("it closed the connection before it answered")
        data += chunk
    return bytes(data)


def _unavailable(why: str) -> DaemonUnavailable:
    return DaemonUnavailable(
        f"flyted does not answer: {why}", hint="sudo systemctl start flyted; journalctl -u flyted -n 20"
    )
