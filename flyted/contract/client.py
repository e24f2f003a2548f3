"""The one client of the daemon's control socket: the CLI, the gateway and the tests use it. Blocking.

When the daemon does not answer, the client asks systemd why, so that the message says what to type next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from flyted.contract import wire
from flyted.contract.answers.events import START, Event, event_of
from flyted.contract.errors import Cancelled, DaemonUnavailable, FlytedError, PermissionRefused, ProtocolMismatch
from flyted.contract.status import CANNOT_START

SOCKET = Path("/run/flyted/control.sock")
API_SOCKET = Path("/run/flyted/api.sock")
"""The gateway's socket. Its peer has no rights; a request has those of the owner of the token that it brings."""

FIRST_SILENCE_S, SILENCE_S = 1.0, 5.0
"""Seconds without a byte after which systemd is asked whether flyted still runs: at first, and later on."""
LAST_WORD_S = 5.0
"""Seconds that Ctrl-C waits to hear what became of the request."""
_ALIVE = {("active", "running"), ("activating", "start"), ("reloading", "reload")}

_INT = struct.Struct("i")

OnEvent = Callable[[Event], None]
Step = TypeVar("Step")


class NotTaken(KeyboardInterrupt):
    """Ctrl-C before the daemon had read the request. The daemon begins nothing of it, since its client leaves."""


class Ended(KeyboardInterrupt):
    """Ctrl-C, upon which the daemon has cancelled what it did for its client."""


def call(
    verb: str,
    args: dict[str, Any] | None = None,
    *,
    bulk: bytes | None = None,
    bundles: Mapping[str, int] | None = None,
    file: int | None = None,
    on_event: OnEvent | None = None,
    token: str = "",
    path: Path = SOCKET,
    ends: bool = False,
) -> dict[str, Any]:
    """Call one verb of the daemon and return its result.

    ``bulk`` is sent as raw bytes after the frame, and the descriptors of ``bundles`` (SHA-256 → descriptor) with it,
    or that of a ``file`` to be read or written; ``on_event`` is called for each progress event; ``token`` says for
    whom the call is, on :data:`API_SOCKET` only. ``ends``: flyted may call the verb off when its client leaves, so
    Ctrl-C waits to hear what became of it.

    Raise the daemon's error as it was raised there; :class:`DaemonUnavailable` or :class:`PermissionRefused` when the
    daemon cannot be reached; :class:`~flyted.contract.errors.InvalidInput` for a request that carries too much;
    :class:`ProtocolMismatch` for an answer that cannot be read. Raise :class:`NotTaken` for Ctrl-C before the daemon
    had read the request, :class:`Ended` if the daemon has called it off then, and ``KeyboardInterrupt`` if it goes on
    or is over.
    """
    digests = None if bundles is None else list(bundles)
    fds = [*(bundles or {}).values(), *([] if file is None else [file])]
    frame = wire.encode_request(
        verb, args or {}, token, bulk=bulk, bundles=digests, files=0 if file is None else 1
    )  # fmt: skip
    with _connected(path) as conn:
        answers = _Answers(conn)
        try:
            _ask(conn, frame, fds, bulk or b"")
            return answers.result(on_event)
        except KeyboardInterrupt:
            if _unread(conn):
                raise NotTaken from None
            if ends and answers.cancelled():
                raise Ended from None
            raise


def _ask(conn: socket.socket, frame: bytes, fds: Sequence[int], bulk: bytes) -> None:
    try:
        sent = _patiently(conn, partial(socket.send_fds, conn, [frame], fds)) if fds else 0
        _send(conn, frame[sent:] + bulk)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the daemon refused before it had read all: its error is waiting to be read


def _unread(conn: socket.socket) -> bool:
    """Report whether the daemon has not yet read all that was sent (unix(7), ``SIOCOUTQ``)."""
    (left,) = _INT.unpack(fcntl.ioctl(conn, termios.TIOCOUTQ, bytes(_INT.size)))
    return bool(left)


def _send(conn: socket.socket, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[_patiently(conn, partial(conn.send, left)) :]


def _patiently(conn: socket.socket, step: Callable[[], Step]) -> Step:
    """Repeat one step on a socket until it succeeds, for as long as systemd runs flyted.

    systemd keeps the socket open while flyted fails again and again, so a connection alone proves nothing. systemd is
    asked twice, since a killed flyted is started again within a second. Raise :class:`DaemonUnavailable` when both
    times systemd neither runs flyted nor has a job for it.
    """
    away = False
    while True:
        try:
            return step()
        except TimeoutError as error:
            facts = _facts()
            before, away = away, _is_away(facts)
            if before and away:
                raise DaemonUnavailable(f"flyted does not answer: {_state(facts)}", hint=_HINT) from error
            conn.settimeout(FIRST_SILENCE_S if away else min(2 * (conn.gettimeout() or SILENCE_S), SILENCE_S))


class _Answers:
    """What the daemon says on a connection. Ctrl-C in the middle of a frame loses nothing of it."""

    def __init__(self, conn: socket.socket) -> None:
        self._conn = conn
        self._data = bytearray()
        self._until = float("inf")
        self._goes_on = False

    def result(self, on_event: OnEvent | None) -> dict[str, Any]:
        """Return the verb's result, and pass on the events before it. Raise the daemon's error."""
        while True:
            kind, data = self._next()
            if kind == "result":
                return data
            event = event_of(data)
            self._goes_on |= event.kind == START
            if on_event is not None:
                on_event(event)

    def cancelled(self) -> bool:
        """Leave, and report whether the daemon says that it has ended what it did for this client.

        Not if it says that it goes on, or nothing in time. Another Ctrl-C ends the wait.
        """
        if self._goes_on:
            return False
        self._until = time.monotonic() + LAST_WORD_S
        try:
            self._conn.shutdown(socket.SHUT_WR)
            while not self._goes_on:
                kind, data = self._next()
                self._goes_on = kind == "result" or event_of(data).kind == START
        except Cancelled:
            return True
        except (FlytedError, OSError):
            pass
        return False

    def _next(self) -> tuple[str, dict[str, Any]]:
        size = wire.HEAD.size + wire.length(self._begins(wire.HEAD.size), wire.ANSWER_LIMIT)
        body = self._begins(size)[wire.HEAD.size :]
        del self._data[:size]
        return wire.parse_answer(wire.decode(body, trusted=True))

    def _begins(self, size: int) -> bytes:
        """Return the first bytes of what was not taken yet; read as many as are missing."""
        while len(self._data) < size:
            self._data += self._received(min(size - len(self._data), 1 << 16))
        return bytes(self._data[:size])

    def _received(self, size: int) -> bytes:
        try:
            chunk = _patiently(self._conn, partial(self._in_time, size))
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            raise DaemonUnavailable(
                "flyted closed the connection before it answered", hint="journalctl -u flyted -n 20"
            )
        return chunk

    def _in_time(self, size: int) -> bytes:
        left = self._until - time.monotonic()
        if left <= 0:
            return b""
        if left < LAST_WORD_S:
            self._conn.settimeout(left)
        return self._conn.recv(size)


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as conn:
        conn.settimeout(FIRST_SILENCE_S)
        try:
            conn.connect(os.fspath(path))
        except PermissionError as error:
            raise PermissionRefused(
                f"you may not use {path}: only members of group 'flyted' operate apps",
                hint="sudo adduser $USER flyted, then log in again (or run: newgrp flyted)",
            ) from error
        except OSError as error:
            raise DaemonUnavailable(f"flyted does not answer: {_why(error)}", hint=_HINT) from error
        yield conn


_HINT = "sudo systemctl start flyted.socket flyted; journalctl -u flyted -n 20"


def _why(error: OSError) -> str:
    """Return what systemd says of the daemon, or the error's own text when systemd cannot be asked."""
    return _state(facts) if (facts := _facts()) else error.strerror or str(error)


def _facts() -> dict[str, str]:
    """Return properties of flyted.service from systemd; none when systemd cannot be asked."""
    import subprocess  # noqa: PLC0415  only a daemon that does not answer needs it

    wanted = "LoadState,ActiveState,SubState,Result,StatusText,Job"
    command = ["systemctl", "show", "flyted.service", f"--property={wanted}"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def _is_away(facts: dict[str, str]) -> bool:
    """Report whether systemd neither runs flyted nor has a job for it: a job may wait long for another unit."""
    alive = (facts.get("ActiveState"), facts.get("SubState")) in _ALIVE or facts.get("Job", "0") not in ("", "0")
    return bool(facts) and not alive


def _state(facts: dict[str, str]) -> str:
    if facts.get("LoadState") != "loaded":
        return "it is not installed on this machine"
    if facts.get("StatusText", "").startswith(CANNOT_START):
        return facts["StatusText"]
    result = facts.get("Result", "")
    reason = f", last result '{result}'" if result not in ("", "success") else ""
    return f"systemd says flyted.service is {facts.get('ActiveState')} ({facts.get('SubState')}){reason}"


def check_version(daemon: str, own: str) -> None:
    """Raise :class:`ProtocolMismatch` when ``daemon``, the daemon's version, is not ``own``, the client's."""
    if daemon != own:
        raise ProtocolMismatch(
            f"this is flytectl {own}, the daemon is flyted {daemon}",
            hint="sudo systemctl restart flyted",
        )
