"""Has uvicorn leave it to the ingress to close connections, so that no request meets the close of one.

The ingress keeps connections for further requests only to a server that says so (``KEEPS``), and closes those that are
idle for a second or so. A server that stops has each answer end its connection (RFC 9112 9.6), and waits until the
ingress has closed the idle ones. The ingress does so before flyted stops an app; this is for stops by others.
"""

from __future__ import annotations

import copy
import socket
from typing import Any

FOREVER = 86400
"""Seconds for which a connection may be idle."""
_CLOSE = (b"connection", b"close")
_KNOWN = ("uvicorn.protocols.http.h11_impl", "uvicorn.protocols.http.httptools_impl")


def keep(server: Any) -> bool:
    """Have a server that has started close no idle connection from now on; report whether it does so.

    It does not if it counts connections or requests to refuse some or to end, or speaks by other code than uvicorn's.
    """
    config = server.config
    if config.limit_concurrency is not None or config.limit_max_requests is not None:
        return False
    if config.http_protocol_class.__module__ not in _KNOWN:
        return False
    config.timeout_keep_alive = FOREVER
    return True


def end(server: Any) -> None:
    """Have each answer that has not begun end its connection."""
    server.config.encoded_headers.append(_CLOSE)
    server.server_state.default_headers = [*server.server_state.default_headers, _CLOSE]
    for connection in server.server_state.connections:
        cycle = getattr(connection, "cycle", None)
        if cycle is not None and not cycle.response_started:
            cycle.default_headers = server.server_state.default_headers
    _spare_websockets(server)


def _spare_websockets(server: Any) -> None:
    """Have the answer that begins a WebSocket not end it: HAProxy would refuse such an answer."""
    made = server.config.ws_protocol_class

    def websocket(*, server_state: Any, **more: Any) -> Any:
        its = copy.copy(server_state)
        its.default_headers = [header for header in server_state.default_headers if header != _CLOSE]
        return made(server_state=its, **more)

    for owner in (server.config, *server.server_state.connections):
        if getattr(owner, "ws_protocol_class", None) is not None:
            owner.ws_protocol_class = websocket


def is_in_use(connection: Any) -> bool:
    """Report whether a request has been read from a connection, and is not answered yet; also of a WebSocket.

    A connection that the app has made to itself counts as one: no request of others comes by it.
    """
    cycle = getattr(connection, "cycle", connection)
    if cycle is connection:
        return True
    return cycle is not None and (not cycle.response_complete or not _is_ingress(connection))


def _is_ingress(connection: Any) -> bool:
    return bool(connection.transport.get_extra_info("socket").family == socket.AF_UNIX)
