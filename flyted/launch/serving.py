"""Runs an app's environment as Flyte's fserve does (``_serve`` in flyte/_bin/serve.py), on the inherited socket."""

# ruff: noqa: SLF001 - fserve reads the environment's private fields too: there are no public ones

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from .adopt import Adopter
from .lead import Lead
from .notify import Notifier

_STANDS_STILL_S = 1.0


class Serving:
    """One run of an environment with a server function."""

    def __init__(
        self, environment: Any, bound: dict[str, Any], adopter: Adopter, notifier: Notifier, lead: Lead
    ) -> None:
        self._environment, self._bound, self._adopter, self._notifier = environment, bound, adopter, notifier
        self._lead = lead
        self._main: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked_to_stop = False

    def run(self) -> int:
        """Run until the server function returns, or a signal asks to stop; return the exit status 0.

        Exceptions of the app's functions are passed on.
        """
        try:
            asyncio.run(self._serve())
        except asyncio.CancelledError:
            if not self._asked_to_stop:
                raise
        finally:
            self._lead.end()
        return 0

    async def _serve(self) -> None:
        self._main, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._stop)
        environment = self._environment
        await self._call(environment._on_startup)
        try:
            if inspect.iscoroutinefunction(environment._server):
                await environment._server(**self._arguments(environment._server))
            else:
                await self._in_thread(environment._server)
        finally:
            await self._call(environment._on_shutdown)

    def _stop(self, signum: int, _frame: object) -> None:
        """Handle SIGTERM and SIGINT when no uvicorn server of the main thread does so itself."""
        self._lead.stopping()
        if self._adopter.taken:
            self._adopter.stop(signum)
        elif self._main is not None and self._loop is not None:
            self._asked_to_stop = True
            self._notifier.stopping()
            leaving = threading.Timer(_STANDS_STILL_S, self._leave)  # a function that blocks the loop ignores a cancel
            leaving.daemon = True
            leaving.start()
            self._loop.call_soon_threadsafe(self._cancel, leaving)

    def _leave(self) -> None:
        self._lead.end()
        os._exit(0)

    def _cancel(self, leaving: threading.Timer) -> None:
        leaving.cancel()
        if self._main is not None:
            self._main.cancel()

    async def _call(self, function: Callable[..., Any] | None) -> None:
        if function is None:
            return
        result = function(**self._arguments(function))
        if inspect.isawaitable(result):
            await result

    async def _in_thread(self, function: Callable[..., Any]) -> None:
        """Run a plain function in a thread, since it may run an event loop of its own.

        A daemon thread, so that a function that never returns ends with the process.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: BaseException | None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)

        def work() -> None:
            failure: BaseException | None = None
            try:
                function(**self._arguments(function))
            except BaseException as error:  # noqa: BLE001 - it is raised again in the main thread
                failure = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, failure)

        threading.Thread(target=work, name="server", daemon=True).start()
        await done

    def _arguments(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Return the parameters that the function names; all of them if it takes ``**kwargs``."""
        wanted = inspect.signature(function).parameters
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in wanted.values()):
            return dict(self._bound)
        return {name: self._bound[name] for name in wanted if name in self._bound}
