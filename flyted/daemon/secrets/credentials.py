"""Serves the credential socket: systemd connects once per credential at each start of a unit, and reads to the end.

Three checks come in this order: the kernel says that root asks, the address says for which unit and which credential,
and ``answer`` says whether that unit may have it. A unit that is refused gets no bytes, and the reason is logged.
systemd then starts the unit with an empty credential, which launch refuses. No value is ever logged.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from flyted.base import tasks
from flyted.contract.errors import FlytedError
from flyted.contract.names import printable
from flyted.host.sockets import credential_peer, peer

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64  # others wait in the backlog: to turn one away would start its unit without the secret
SEND_S = 30.0  # systemd reads immediately; a reader that has stopped must not hold a place


class Credentials:
    """A server of the credential socket. ``answer(unit, id)`` returns the bytes or raises :class:`FlytedError`.

    If it has to wait for the bytes (for a GPU), it returns an awaitable: systemd waits as long as the unit may start.
    """

    def __init__(self, listener: socket.socket, answer: Callable[[str, str], bytes | Awaitable[bytes]]) -> None:
        listener.setblocking(False)  # noqa: FBT003
        self._listener = listener
        self._answer = answer
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)

    async def run(self) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                conn, address = await loop.sock_accept(self._listener)
            except OSError as error:
                self._room.release()
                log.error("cannot accept connections on the credential socket: %s", error)  # noqa: TRY400
                await asyncio.sleep(1)  # out of descriptors: some are closed meanwhile
                continue
            except BaseException:
                self._room.release()
                raise
            tasks.begin(self._serve(conn, address)).add_done_callback(lambda _task: self._room.release())

    async def _serve(self, conn: socket.socket, address: object) -> None:
        with conn:
            wanted = self._wanted(conn, address)
            value = await self._value(*wanted) if wanted else None
            if value is None:
                return
            try:
                async with asyncio.timeout(SEND_S):
                    await asyncio.get_running_loop().sock_sendall(conn, value)
            except (OSError, TimeoutError) as error:
                log.warning("cannot send a credential to %s: %s", printable(address), error or "too slow")

    def _wanted(self, conn: socket.socket, address: object) -> tuple[str, str] | None:
        """Return the unit and the credential's id, or ``None`` for a peer that gets nothing whatever it asks for."""
        asking = peer(conn)
        if asking.uid != 0:
            log.warning("uid %d (process %d) asked for a credential: refused", asking.uid, asking.pid)
            return None
        wanted = credential_peer(address)
        if wanted is None:
            log.warning("root's process %d asked for a credential without a unit: refused", asking.pid)
        return wanted

    async def _value(self, unit: str, credential: str) -> bytes | None:
        """Return the value, or ``None`` for a unit that gets none."""
        try:
            value = self._answer(unit, credential)
            if not isinstance(value, bytes):
                value = await self._aside(value)
        except FlytedError as error:
            log.warning("%s gets no credential %s: %s", unit, credential, error.message)
            return None
        except Exception:
            log.exception("%s gets no credential %s", unit, credential)
            return None
        log.info("%s was given credential %s", unit, credential)
        return value

    async def _aside(self, value: Awaitable[bytes]) -> bytes:
        """Wait for a value without holding a place: waiting for a GPU must not keep others from their secrets."""
        self._room.release()
        try:
            return await value
        finally:
            await self._room.acquire()
