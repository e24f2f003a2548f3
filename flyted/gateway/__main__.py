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

import uvicorn

from flyted.base import sd, tasks
from flyted.base.log import to_journal
from flyted.contract.version import VERSION
from flyted.gateway.app import Gateway
from flyted.gateway.daemon import Daemon
from flyted.gateway.parts import Parts, make

log = logging.getLogger(__name__)

IDLE_S = 60.0
DRAIN_S = 10
AT_ONCE = 8192
"""More than HAProxy opens (plan/ingress/config.py): beyond this uvicorn refuses calls, whoever they come from."""


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
    """Serve until SIGTERM, or until no request has come for ``idle_s`` seconds and no work is in progress."""
    gateway = Gateway(parts)
    server = server_of(gateway)
    watcher = tasks.begin(_end_when_idle(server, gateway, parts, idle_s))
    try:
        await server.serve(sockets=[listener])
    finally:
        await tasks.end(watcher)


async def _end_when_idle(server: uvicorn.Server, gateway: Gateway, parts: Parts, idle_s: float) -> None:
    while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
        await asyncio.sleep(0.01)
    sd.notify("READY=1")
    while True:
        rest = gateway.last + idle_s - time.monotonic()
        if gateway.busy or parts.jobs.busy or server.server_state.connections:
            rest = max(rest, 1.0)
        elif rest <= 0:
            # a client that connects from now on waits in systemd's queue, and systemd starts the gateway again
            for listening in server.servers:
                listening.close()
            await asyncio.sleep(0.05)  # connections accepted before that have begun by now, and are served
            sd.notify("STOPPING=1")
            server.should_exit = True
            return
        await asyncio.sleep(rest)


def inherited() -> socket.socket | None:
    """Return the socket that systemd passes, or None unless it passes exactly one."""
    passed = sd.listeners()
    return socket.socket(fileno=passed[0][1]) if passed is not None and len(passed) == 1 else None


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
    to_journal(logging.WARNING)
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
            "flyted-gateway cannot store its files in %s: %s; systemd restarts it until this is fixed", state, why
        )
        return 1
    await serve(listener, parts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
