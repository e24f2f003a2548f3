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
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from flyted.contract import wire
from flyted.contract.answers.events import Event, event_of
from flyted.contract.errors import DaemonUnavailable, PermissionRefused, ProtocolMismatch
from flyted.contract.status import CANNOT_START

SOCKET = Path("/run/flyted/control.sock")
API_SOCKET = Path("/run/flyted/api.sock")
"""The gateway's socket. Its peer has no rights; a request has those of the owner of the token that it brings."""

FIRST_SILENCE_S, SILENCE_S = 1.0, 5.0
"""Seconds without a byte after which systemd is asked whether flyted still runs: at first, and later on."""
_ALIVE = {("active", "running"), ("activating", "start"), ("reloading", "reload")}

_INT = struct.Struct("i")

OnEvent = Callable[[Event], None]
Step = TypeVar("Step")


class NotTaken(KeyboardInterrupt):
    """Ctrl-C before the daemon had read the request. The daemon begins nothing of it, since its client leaves."""


def call(
    verb: str,
    args: dict[str, Any] | None = None,
    *,
    bulk: bytes | None = None,
    bundles: Mapping[str, int] | None = None,
    on_event: OnEvent | None = None,
    token: str = "",
    path: Path = SOCKET,
) -> dict[str, Any]:
    """Call one verb of the daemon and return its result.

    ``bulk`` is sent as raw bytes after the frame, and the descriptors of ``bundles`` (SHA-256 → descriptor) with it;
    ``on_event`` is called for each progress event; ``token`` says for whom the call is, on :data:`API_SOCKET` only.

    Raise the daemon's error as it was raised there; :class:`DaemonUnavailable` or :class:`PermissionRefused` when the
    daemon cannot be reached; :class:`~flyted.contract.errors.InvalidInput` for a request that carries too much;
    :class:`ProtocolMismatch` for an answer that cannot be read; :class:`NotTaken` for Ctrl-C before the daemon had
    read the request.
    """
    digests = None if bundles is None else list(bundles)
    frame = wire.encode_request(verb, args or {}, token, bulk=bulk, bundles=digests)
    with _connected(path) as conn:
        try:
            _ask(conn, frame, list((bundles or {}).values()), bulk or b"")
            return _answers(conn, on_event)
        except KeyboardInterrupt:
            if _unread(conn):
                raise NotTaken from None
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


def _answers(conn: socket.socket, on_event: OnEvent | None) -> dict[str, Any]:
    while True:
        head = _exactly(conn, wire.HEAD.size)
        body = _exactly(conn, wire.length(head, wire.ANSWER_LIMIT))
        kind, data = wire.parse_answer(wire.decode(body, trusted=True))
        if kind == "result":
            return data
        if on_event is not None:
            on_event(event_of(data))


def _exactly(conn: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        try:
            chunk = _patiently(conn, partial(conn.recv, min(size - len(data), 1 << 16)))
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            raise DaemonUnavailable(
                "flyted closed the connection before it answered", hint="journalctl -u flyted -n 20"
            )
        data += chunk
    return bytes(data)


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
