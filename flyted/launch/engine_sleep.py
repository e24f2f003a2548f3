"""Puts vLLM to sleep and wakes it, over its own port in its own network.

vLLM's endpoints for that require no key, and the ingress lets no request through to them. A request that arrives while
vLLM sleeps would hang, and its /health answers 200 all the time: so no request may reach it before ``wake`` has
returned.

vLLM, docs/features/sleep_mode.md: a wake from level 2 restores the memory of the weights, the weights, and the cache,
in this order.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable

from .deadline import left, receive
from .words import SLEEP_S, WAKE_S

_WAKE: dict[int, tuple[tuple[str, bytes], ...]] = {
    1: (("/wake_up", b""),),
    2: (
        ("/wake_up?tags=weights", b""),
        ("/collective_rpc", b'{"method": "reload_weights"}'),
        ("/wake_up?tags=kv_cache", b""),
    ),
}
_ANSWER_LIMIT = 64 * 1024
_PAUSE_S = 0.05


class Failed(Exception):
    """An error of vLLM: it did not do what was asked. The text says what it answered."""


def put_to_sleep(target: str, level: int, seconds: float = SLEEP_S) -> None:
    """Put the engine at ``target`` (``address:port``, no brackets) to sleep.

    Raise ``Failed`` if it does not sleep within ``seconds``.
    """
    end = time.monotonic() + seconds
    _demand(target, "POST", f"/sleep?level={level}", end)
    _until(lambda: _sleeps(target, end), end, "/is_sleeping does not confirm it")


def wake(target: str, level: int, seconds: float | None = None) -> None:
    """Wake the engine, and return when it answers requests.

    Raise ``Failed`` if that takes longer than ``seconds`` (``WAKE_S`` of the level if ``None``).
    """
    end = time.monotonic() + (WAKE_S[level] if seconds is None else seconds)
    for path, body in _WAKE[level]:
        _demand(target, "POST", path, end, body)
    _until(lambda: not _sleeps(target, end), end, "/is_sleeping says that it still sleeps")
    _until(lambda: _ask(target, "GET", "/health", end)[0] == 200, end, "/health does not report it healthy")


def wake_on_connection(listener: int, target: str, level: int) -> None:
    """Wait, without a time limit, for a connection to the listening socket, then wake the engine.

    Raise ``Failed`` if the engine does not wake.
    """
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    waiting.poll()
    wake(target, level)


def connection_waits(listener: int) -> bool:
    """Report whether a connection waits to be accepted on a listening socket."""
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    return bool(waiting.poll(0))


def _sleeps(target: str, end: float) -> bool:
    answer = _demand(target, "GET", "/is_sleeping", end)
    try:
        found = json.loads(answer)["is_sleeping"]
    except (ValueError, KeyError, TypeError):
        raise Failed("/is_sleeping gives an unknown answer") from None
    return found is True


def _until(holds: Callable[[], bool], end: float, otherwise: str) -> None:
    while not holds():
        if time.monotonic() + 2 * _PAUSE_S > end:
            raise Failed(otherwise)
        time.sleep(_PAUSE_S)


def _demand(target: str, method: str, path: str, end: float, body: bytes = b"") -> bytes:
    status, answer = _ask(target, method, path, end, body)
    if status != 200:
        raise Failed(f"{method} {path} answers {status}")
    return answer


def _ask(target: str, method: str, path: str, end: float, body: bytes = b"") -> tuple[int, bytes]:
    """Send one small request; return the status and body of the answer.

    HTTP/1.0, so that the answer ends with the connection. Raise ``Failed`` if there is no valid answer until ``end``.
    """
    address, _, port = target.rpartition(":")
    head = f"{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    try:
        with socket.create_connection((address, int(port)), left(end)) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            answer = _read(connection, end)
    except OSError as error:
        raise Failed(f"{method} {path}: {'no answer in time' if isinstance(error, TimeoutError) else error}") from None
    words = answer.partition(b"\r\n")[0].split()
    if len(words) < 2 or not words[1].isdigit():
        raise Failed(f"{method} {path} is not answered in HTTP")
    return int(words[1]), answer.partition(b"\r\n\r\n")[2]


def _read(connection: socket.socket, end: float) -> bytes:
    found = b""
    while len(found) < _ANSWER_LIMIT:
        part = receive(connection, _ANSWER_LIMIT, end)
        if not part:
            break
        found += part
    return found
