"""One connection of the control socket: frames in (with descriptors), bulk in, frames out. Everything is bounded.

asyncio's streams cannot receive descriptors (SCM_RIGHTS), so this module reads the socket itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from flyted.contract import wire
from flyted.contract.bundles import MOST
from flyted.contract.errors import Busy, InvalidInput, ProtocolMismatch
from flyted.daemon.api.actor import Actor
from flyted.daemon.api.outbox import ClientGone, Outbox
from flyted.plan.crowd import STRANGERS, cost

REQUEST_TIME_S = 5.0  # for a whole request: a client cannot hold a place with one byte a second
ANSWER_TIME_S = 30.0  # for one frame: a client that does not read loses its connection
_PEERCRED = struct.Struct("3i")


class Connection:
    """A client's connected, non-blocking socket.

    ``may_hold`` says whether the connection may take so many bytes of memory more.
    """

    def __init__(self, conn: socket.socket, may_hold: Callable[[Connection, int], bool]) -> None:
        conn.settimeout(0)
        self._conn = conn
        self._may_hold = may_hold
        self.held = 0  # bytes of memory that its request takes
        self._fds: list[int] = []
        self.asked = False
        self.refused = ""
        self._left = False
        self._outbox = Outbox(self._send)
        pid, uid, _ = _PEERCRED.unpack(conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
        self.actor = Actor(uid, pid)
        self.user = STRANGERS  # the user among whose connections it counts (plan/crowd.py)

    async def request(self) -> tuple[wire.Request, bytes]:
        """Read the request and its bulk bytes, and check that a descriptor came for each bundle that it names.

        A request that waited in the socket while flyted was down or hung, until its client left, is not begun: the
        client has reported a timeout. Raises :class:`ClientGone` for it, :class:`ProtocolMismatch` for
        bytes that make no sense or come too slowly, :class:`Busy` for too many at once, :class:`InvalidInput` for
        bundles that are not those it names, and as :func:`wire.parse_request`.
        """
        try:
            async with asyncio.timeout(REQUEST_TIME_S):
                size = wire.length(await self._exactly(wire.HEAD.size), wire.REQUEST_LIMIT)
                self._hold(cost(size))
                request = wire.parse_request(wire.decode(await self._exactly(size)))
                self._hold(request.bulk)
                bulk = await self._exactly(request.bulk)
                self._check_descriptors(request)
        except TimeoutError as error:
            raise ProtocolMismatch(f"no complete request within {REQUEST_TIME_S:.0f} s") from error
        finally:
            self.asked = True
        if self._waits_no_more():
            raise ClientGone
        return request, bulk

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that came with the request, which :meth:`close` closes."""
        return tuple(self._fds)

    async def post(self, message: dict[str, Any]) -> None:
        """Have one frame sent after those before it (:meth:`Outbox.put`).

        Raises :class:`InvalidInput` for a frame that is too long.
        """
        await self._outbox.put(wire.encode(message))

    async def send(self, message: dict[str, Any]) -> None:
        """Send one frame. Raises :class:`ClientGone`, or :class:`InvalidInput` for a frame that is too long."""
        await self.send_frame(wire.encode(message))

    async def send_frame(self, frame: bytes) -> None:
        """Send an encoded frame after all others.

        Raises :class:`ClientGone`, also for a client that did not read an earlier frame in time.
        """
        await self._outbox.sent()
        await self._send(frame)

    async def _send(self, frame: bytes) -> None:
        if self._left:
            raise ClientGone
        try:
            async with asyncio.timeout(ANSWER_TIME_S):
                await asyncio.get_running_loop().sock_sendall(self._conn, frame)
        except (OSError, TimeoutError) as error:
            self._left = True
            raise ClientGone from error

    async def gone(self) -> None:
        """Wait until the client has closed its side (or sends unexpected data)."""
        await self._readable()

    def close(self) -> None:
        """Close the socket and the descriptors that came with it."""
        self._outbox.close()
        for fd in self._fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        self._fds.clear()
        self._conn.close()

    def _check_descriptors(self, request: wire.Request) -> None:
        named = len(request.bundles)
        if len(self._fds) != named + request.files:
            raise InvalidInput(
                f"the request names {named + request.files} bundles, but carries {len(self._fds)} file descriptors",
                hint="install flytectl and flyted of the same version",
            )

    def _hold(self, size: int) -> None:
        if not self._may_hold(self, size):
            raise Busy("your open requests to flyted are too large in total", hint="try again later")
        self.held += size

    async def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                chunk, fds, flags, _ = socket.recv_fds(self._conn, min(size - len(data), 1 << 16), MOST)
            except BlockingIOError:
                await self._readable()
                continue
            except OSError as error:
                raise ClientGone from error
            self._fds += fds
            if flags & socket.MSG_CTRUNC or len(self._fds) > MOST:
                raise ProtocolMismatch(f"a request carries more than {MOST} file descriptors")
            if not chunk:
                raise ClientGone
            data += chunk
        return bytes(data)

    def _waits_no_more(self) -> bool:
        try:
            return not self._conn.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._conn, _once, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self._conn)


def _once(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
