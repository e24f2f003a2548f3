"""`flyted-gateway`: takes the socket from systemd, serves, and ends when no request has come for a while."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import uvicorn

from flyted.contract.version import VERSION
from flyted.gateway.app import Gateway
from flyted.gateway.daemon import Daemon
from flyted.gateway.parts import Parts, make

log = logging.getLogger(__name__)

IDLE_S = 60.0
DRAIN_S = 10
AT_ONCE = 256
_LEVELS = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _Journal(logging.Formatter):
    """A formatter of lines for systemd's journal, with the level first (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_LEVELS.get(record.levelno, 6)}>{super().format(record)}"


class _Server(uvicorn.Server):
    """A uvicorn server that ends streams when it stops: uvicorn alone would wait for these, too."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.leave()
        await super().shutdown(sockets)


def server_of(gateway: Gateway) -> uvicorn.Server:
    """Return a uvicorn server for the application. It speaks HTTP/1.1, as the ingress does."""
    config = uvicorn.Config(
        gateway, http="h11", ws="none", loop="asyncio", lifespan="off", access_log=False, log_config=None,
        server_header=False, proxy_headers=False, limit_concurrency=AT_ONCE, timeout_graceful_shutdown=DRAIN_S,
    )  # fmt: skip
    return _Server(config, gateway)


async def serve(listener: socket.socket, parts: Parts, idle_s: float = IDLE_S) -> None:
    """Serve until SIGTERM, or until no request has come for ``idle_s`` seconds and nothing goes on."""
    gateway = Gateway(parts)
    server = server_of(gateway)
    watcher = asyncio.create_task(_end_when_idle(server, gateway, parts, idle_s))
    try:
        await server.serve(sockets=[listener])
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


async def _end_when_idle(server: uvicorn.Server, gateway: Gateway, parts: Parts, idle_s: float) -> None:
    while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
        await asyncio.sleep(0.01)
    notify("READY=1")
    while True:
        rest = gateway.last + idle_s - time.monotonic()
        if gateway.busy or parts.jobs.busy or server.server_state.connections:
            rest = max(rest, 1.0)
        elif rest <= 0:
            # a client that connects from now on waits in systemd's queue, and systemd starts the gateway again
            for listening in server.servers:
                listening.close()
            await asyncio.sleep(0.05)  # connections accepted before that have begun by now, and are served
            notify("STOPPING=1")
            server.should_exit = True
            return
        await asyncio.sleep(rest)


def notify(state: str) -> None:
    """Tell systemd a state (sd_notify(3)), if systemd asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith(("/", "@")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def inherited(environ: Any = os.environ) -> socket.socket | None:
    """Return the socket that systemd passes (sd_listen_fds(3)), or None unless it passes exactly one."""
    if environ.get("LISTEN_PID") != str(os.getpid()) or environ.get("LISTEN_FDS") != "1":
        return None
    return socket.socket(fileno=3)


def main() -> int:
    """Run the gateway. Return 0 after SIGTERM or when it was idle, 1 if it cannot run, 2 for wrong usage."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"flyted-gateway {VERSION}\n")
        return 0
    listener, state = inherited(), os.environ.get("STATE_DIRECTORY", "")
    if sys.argv[1:] or listener is None or not state:
        sys.stderr.write(
            "usage: flyted-gateway [--version]  (systemd starts it: systemctl start flyted-gateway.socket)\n"
        )
        return 2
    handler = logging.StreamHandler()
    handler.setFormatter(_Journal("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    gc.freeze()  # imported modules stay: no collection needs to visit them
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_run(listener, Path(state)))
    return 0


async def _run(listener: socket.socket, state: Path) -> int:
    try:
        parts = make(state, Daemon())
    except OSError as error:
        why = error.strerror or type(error).__name__
        log.error(  # noqa: TRY400  the line says it all
            "flyted-gateway cannot keep its files in %s: %s; systemd tries again until that is mended", state, why
        )
        return 1
    await serve(listener, parts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
