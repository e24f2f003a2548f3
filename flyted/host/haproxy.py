"""Asks HAProxy by its runtime API, over the admin socket. Source: HAProxy's management.txt, section 9.

The admin socket belongs to PID 1 (``flyted-ingress.socket``): connecting starts HAProxy if it is not running.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from flyted.contract.errors import HostFailure, IngressDown
from flyted.contract.names import printable
from flyted.plan.ingress import answers

ADMIN = Path("/run/flyted/admin.sock")
WHY = "systemctl status flyted-ingress; journalctl -u flyted-ingress -n 20"


class Haproxy:
    """The admin socket. ``timeout_s``: seconds that HAProxy may take for the answer to a command."""

    def __init__(self, admin: Path = ADMIN, timeout_s: float = 5.0) -> None:
        self._admin, self._timeout = admin, timeout_s

    async def tell(self, command: str) -> None:
        """Send a command that changes something. Raises as :meth:`ask`, and :class:`HostFailure` if it is refused."""
        check(command, await self.ask(command))

    async def ask(self, command: str, *, secret: bool = False) -> str:
        """Send one command on a connection of its own, which HAProxy closes after its answer, and return that.

        ``secret``: keep the command out of messages. Raises :class:`IngressDown`.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._exchange(command)
        except (OSError, TimeoutError) as error:
            what = "a certificate" if secret else f"'{command}'"
            why = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise IngressDown(f"cannot send {what} to the ingress (HAProxy): {why}", hint=WHY) from error

    async def _exchange(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(os.fspath(self._admin))
        try:
            # no write_eof(): HAProxy gives a command up when its client has half-closed the connection
            writer.write(command.encode() + b"\n")
            await writer.drain()
            answer = await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if not answer:
            raise ConnectionResetError(f"HAProxy closed the connection without an answer to {printable(command[:40])}")
        return answer.decode("utf-8", "replace")


def check(command: str, answer: str) -> None:
    """Raise :class:`HostFailure`, with HAProxy's own words, if it refused a command that changes something."""
    if said := answers.refusal(command, answer):
        raise HostFailure(f"HAProxy refused '{command.partition(' <<')[0]}': {said}", hint=WHY)
