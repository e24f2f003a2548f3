"""Waits for systemd's jobs: a call begins one, and the signal ``JobRemoved`` reports its result."""

from __future__ import annotations

import asyncio

from flyted.contract.errors import HostFailure


class Jobs:
    """The jobs that are waited for, by object path. ``longest_s``: the most seconds that one may take."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._waiting: dict[str, asyncio.Future[str]] = {}

    async def finished(self, job: str) -> str:
        """Wait for a job, and return its result; nothing may have been awaited since the call that began it.

        Raises :class:`HostFailure` when it takes too long, or the connection is lost.
        """
        # so JobRemoved cannot have been missed: only the loop reads signals
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[job] = future
        try:
            # not wait_for(): Python 3.11's loses a cancellation at the last moment
            async with asyncio.timeout(self._longest_s):
                return await future
        except TimeoutError as error:
            raise HostFailure(
                f"systemd has not finished {job} after {self._longest_s:.0f} s", hint="systemctl list-jobs"
            ) from error
        finally:
            self._waiting.pop(job, None)

    def removed(self, job: str, result: str) -> None:
        """Report a job's result to its waiter."""
        future = self._waiting.get(job)
        if future is not None and not future.done():
            future.set_result(result)

    def lost(self) -> None:
        """Fail every job with a waiter: its end may have been missed."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(HostFailure("the connection to systemd was lost meanwhile; try again"))
