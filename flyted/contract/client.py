"""The one client of the daemon's control socket: the CLI, the gateway and the tests use it. Blocking.

When the daemon does not answer it asks systemd why, so that the message says what to type next.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flyted.contract import wire
from flyted.contract.errors import DaemonUnavailable, PermissionRefused, ProtocolMismatch

SOCKET = Path("/run/flyted/control.sock")

OnEvent = Callable[[dict[str, Any]], None]


def call(
    verb: str,
    args: dict[str, Any] | None = None,
    *,
    bulk: bytes | None = None,
    fd: int | None = None,
    on_event: OnEvent | None = None,
    path: Path = SOCKET,
) -> dict[str, Any]:
    """Calls one verb of the daemon and returns its result.

    ``bulk`` goes as raw bytes after the frame, ``fd`` as a descriptor with it; ``on_event`` is called for each
    progress event. Raises the daemon's error as it was raised there, :class:`DaemonUnavailable` or
    :class:`PermissionRefused` when it cannot be reached.
    """
    arguments = dict(args or {})
    if bulk is not None:
        arguments["bulk"] = len(bulk)
    frame = wire.encode_request(verb, arguments)
    with _connected(path) as conn:
        try:
            if fd is None:
                conn.sendall(frame)
            else:
                sent = socket.send_fds(conn, [frame], [fd])
                conn.sendall(frame[sent:])
            if bulk:
                conn.sendall(bulk)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon refused early: its error is waiting to be read
        return _answers(conn, on_event)


def _answers(conn: socket.socket, on_event: OnEvent | None) -> dict[str, Any]:
    while True:
        head = _exactly(conn, wire.HEAD.size)
        body = _exactly(conn, wire.length(head, wire.ANSWER_LIMIT))
        kind, data = wire.parse_answer(wire.decode(body, trusted=True))
        if kind == "result":
            return data
        if on_event is not None:
            on_event(data)


def _exactly(conn: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        try:
            chunk = conn.recv(min(size - len(data), 1 << 16))
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
    """What systemd says of the daemon; the plain error when systemd cannot be asked."""
    command = ["systemctl", "show", "flyted.service", "--property=LoadState,ActiveState,SubState,Result"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return str(error)
    facts = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if not facts:
        return str(error)
    if facts.get("LoadState") != "loaded":
        return "it is not installed on this machine"
    result = facts.get("Result", "")
    reason = f", last result '{result}'" if result not in ("", "success") else ""
    return f"systemd says flyted.service is {facts.get('ActiveState')} ({facts.get('SubState')}){reason}"


def check_version(answer: dict[str, Any], own: str) -> None:
    """Raises :class:`ProtocolMismatch` when the daemon is of another version than this client."""
    if answer.get("version") != own:
        raise ProtocolMismatch(
            f"this is flytectl {own}, the daemon is flyted {answer.get('version')}",
            hint="sudo systemctl restart flyted",
        )
