"""Makes the first uvicorn server of this process listen on the inherited socket, however it is started.

``uvicorn.run``, ``Server.run`` and ``Server.serve`` all end in ``Server.serve``. The server's host, port, ``uds`` and
``fd`` settings have no effect; TLS is left to the ingress, and processes to systemd.

A stop has two steps, so that it loses no request. asyncio accepts connections in batches, and uvicorn closes those
whose request it has not read yet. So the server first only stops accepting (new connections wait in the kernel for the
next start), and the normal graceful stop follows when a request has been read from every accepted connection, and
the ingress has closed those that it kept (kept.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Coroutine
from types import FrameType, ModuleType
from typing import Any

from . import kept, trailers, workdir
from .activation import Listener
from .imports import after_import
from .notify import Notifier
from .surroundings import flush, say
from .words import BACKLOG, KEEPS

READ_LIMIT = (
    2.0  # the maximum of seconds between the last accept and the graceful stop: a client may never send anything
)
READ_POLL = 0.01
ATTACHING = (
    5  # iterations of the event loop: asyncio attaches an accepted connection in the second, reads in the third
)
EXIT_SECONDS = 5.0  # for on_shutdown and the app's own threads, once the server has stopped
DRAIN_SECONDS = 20  # for answers in progress, unless the app's own configuration sets a limit


def _leave_within(seconds: float) -> None:
    """End the process after ``seconds``: a thread of the app that never ends must not delay a stop until SIGKILL."""
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _own(host: str, port: int) -> list[socket.socket]:
    """Return a socket on the app's own port, at its loopback: a program may ask itself, as Gradio does when it starts.

    None if the port is taken. The app has a network of its own, so nobody else reaches it.
    """
    family, address = (socket.AF_INET6, "::1") if host in ("::", "::1") else (socket.AF_INET, "127.0.0.1")
    try:
        return [socket.create_server((address, port), family=family, backlog=BACKLOG)] if port else []
    except OSError:
        return []


class Adopter:
    """The owner of the inherited socket until a uvicorn server takes it; stops that server."""

    def __init__(self, listener: Listener, notifier: Notifier, app: str, ready_path: str = "") -> None:
        self._listener: Listener | None = listener
        self._claim = threading.Lock()
        self._taken: Listener | None = None
        self._notifier, self._app, self._ready_path = notifier, app, ready_path
        self._process = os.getpid()
        self._server: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Patch uvicorn when it is imported; an app without uvicorn pays nothing."""
        after_import("uvicorn.config", self._patch_config)
        after_import("uvicorn.server", self._patch_server)
        trailers.install()

    @property
    def taken(self) -> bool:
        """True if a server has taken the inherited socket; it may have ended since."""
        return self._server is not None

    def give_up(self) -> Listener | None:
        """Return the inherited socket to the first caller, and ``None`` to every later one."""
        with self._claim:
            listener, self._listener = self._listener, None
        return listener

    def stop(self, signum: int) -> None:
        """Begin the two-step stop; a second call skips to the graceful stop, by SIGINT to a forced one.

        May be called from any thread or signal handler.
        """
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the server with it
                self._loop.call_soon_threadsafe(self._begin_stop, signum)

    def _patch_config(self, module: ModuleType) -> None:
        original = module.Config.__init__

        def __init__(config: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(config, *args, **kwargs)
            if os.getpid() == self._process and (config.workers > 1 or config.reload):
                say("uvicorn's workers and reload are ignored: one process serves")
                config.workers, config.reload = 1, False

        module.Config.__init__ = __init__

    def _patch_server(self, module: ModuleType) -> None:
        server_class, adopter = module.Server, self
        serve, startup, handle_exit = server_class.serve, server_class.startup, server_class.handle_exit

        async def adopted_serve(server: Any, sockets: list[socket.socket] | None = None) -> None:
            await serve(server, sockets=adopter._take(server, sockets))
            if adopter._server is server and adopter._stopping is not None:
                _leave_within(EXIT_SECONDS)

        async def adopted_startup(server: Any, sockets: list[socket.socket] | None = None) -> None:
            await startup(server, sockets=sockets)
            if adopter._server is server and server.started:
                adopter._asking = asyncio.ensure_future(adopter._tell_ready(server))

        def adopted_handle_exit(server: Any, sig: int, frame: FrameType | None) -> None:
            if adopter._server is server:
                adopter.stop(sig)
            else:
                handle_exit(server, sig, frame)

        server_class.serve, server_class.startup = adopted_serve, adopted_startup
        server_class.handle_exit = adopted_handle_exit
        self._patch_end(module)

    def _patch_end(self, module: ModuleType) -> None:
        """Have a stop take no longer than it needs to: a request may wait for the next start."""
        server_class, adopter = module.Server, self
        main_loop, shutdown = server_class.main_loop, server_class.shutdown

        async def adopted_main_loop(server: Any) -> None:
            if adopter._server is server:
                await adopter._tick(main_loop(server))
            else:
                await main_loop(server)

        async def adopted_shutdown(server: Any, sockets: list[socket.socket] | None = None) -> None:
            state = server.server_state
            if adopter._server is not server or state.connections or state.tasks:
                await shutdown(server, sockets=sockets)
                return
            module.logger.info("Shutting down")  # uvicorn's words; it would wait for a moment, for nobody
            adopter._close(server, *(sockets or ()))
            if not server.force_exit:
                await server.lifespan.shutdown()

        server_class.main_loop, server_class.shutdown = adopted_main_loop, adopted_shutdown

    def _take(self, server: Any, bound: list[socket.socket] | None) -> list[socket.socket] | None:
        listener = self.give_up() if os.getpid() == self._process else None
        if listener is None:
            return bound
        for sock in bound or []:
            sock.close()
        config = server.config
        config.uds = config.fd = None
        config.backlog = BACKLOG
        if config.is_ssl:
            say("uvicorn's TLS settings are ignored: the ingress does TLS")
            config.ssl = config.ssl_keyfile = config.ssl_certfile = config.ssl_context_factory = None
        if config.timeout_graceful_shutdown is None:
            config.timeout_graceful_shutdown = DRAIN_SECONDS
        self._server, self._loop = server, asyncio.get_running_loop()
        self._taken = listener
        return [listener, *_own(str(config.host), int(config.port))]

    async def _tell_ready(self, server: Any) -> None:
        if self._ready_path:
            from .asgi import until_ready

            await until_ready(server.config.loaded_app, self._ready_path)
        self._notifier.ready(f"serving {self._app}" + (f"; {KEEPS}" if kept.keep(server) else ""))
        workdir.tidy(os.environ)

    def _begin_stop(self, signum: int) -> None:
        if self._stopping is not None:
            self._server.should_exit = True
            self._server.force_exit = self._server.force_exit or signum == signal.SIGINT
            return
        self._notifier.stopping()
        if not (self._server.started or (self._taken is not None and self._taken.accepting)):
            # The app is still starting up, which may take minutes: nothing was accepted, so nothing is lost.
            flush()
            os._exit(0)
        self._stopping = asyncio.ensure_future(self._two_steps())

    async def _two_steps(self) -> None:
        server = self._server
        while not server.started:  # noqa: ASYNC110 - true within the next two iterations of the loop
            await asyncio.sleep(0)
        kept.end(server)
        # Not yet ``close()``: a connection that asyncio has accepted but not attached would fail on a closed server.
        polled = self._taken is not None and asyncio.get_running_loop().remove_reader(self._taken.fileno())
        if not polled:  # uvloop, which accepts and attaches a connection in one step
            self._close(server)
        for _ in range(ATTACHING):
            await asyncio.sleep(0)
        self._close(server)
        for _ in range(int(READ_LIMIT / READ_POLL)):
            if all(map(kept.is_in_use, server.server_state.connections)):
                break
            await asyncio.sleep(READ_POLL)
        server.should_exit = True
        if self._ticking is not None:
            self._ticking.cancel()

    async def _tick(self, main_loop: Coroutine[Any, Any, None]) -> None:
        """Run uvicorn's main loop until it ends or a stop cancels it: it looks for one only ten times a second."""
        self._ticking = asyncio.ensure_future(main_loop)
        try:
            await asyncio.wait([self._ticking])
        finally:
            self._ticking.cancel()
        if not self._ticking.cancelled():
            self._ticking.result()

    @staticmethod
    def _close(server: Any, *sockets: socket.socket) -> None:
        for listening in (*server.servers, *sockets):
            listening.close()
