"""One deploy of an app at a time, and what becomes of it when the app is stopped or deleted meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from flyted.contract.errors import Busy, DeployFailed
from flyted.contract.names import AppKey
from flyted.daemon.apps.locks import DeployLocks

ONE, OTHER = AppKey("default", "development", "one"), AppKey("default", "development", "other")


class Deploys:
    """Deploys that last until they are told to end, and what they did."""

    def __init__(self) -> None:
        self.locks = DeployLocks()
        self.end, self.erasing = asyncio.Event(), asyncio.Event()
        self.did: list[str] = []

    async def run(self, app: AppKey) -> str:
        """One of them: undoing takes a moment too."""
        async with self.locks.hold(app):
            self.did.append("begun")
            try:
                await self.end.wait()
            except asyncio.CancelledError:
                self.did.append(f"cancelled, by another verb: {self.locks.cancelled(app)}")
                await asyncio.sleep(0)
                self.did.append("undone")
                raise
        return "deployed"

    async def end_it(self, app: AppKey) -> bool:
        """A stop that has nothing to wait for; whether it cancelled a deploy."""
        async with self.locks.ending(app) as turn:
            return turn.interrupts

    async def delete(self, app: AppKey) -> str:
        """A deletion that waits for the app's last requests, then erases its files, which takes a moment too."""

        async def erase() -> None:
            self.did.append("erasing")
            self.erasing.set()
            await asyncio.sleep(0.02)
            self.did.append("erased")

        async with self.locks.ending(app) as turn:
            self.did.append("waiting")
            await self.end.wait()
            await turn.finish(erase())
        return "deleted"

    async def start(self, app: AppKey) -> asyncio.Task[str]:
        """It has begun when this returns."""
        task = asyncio.create_task(self.run(app))
        await asyncio.sleep(0)
        return task


def test_only_one_at_a_time_of_the_same_app() -> None:
    """Another app does not wait; the same one is refused until it is over."""

    async def scenario() -> None:
        deploys = Deploys()
        first, other = await deploys.start(ONE), await deploys.start(OTHER)
        with pytest.raises(Busy, match="a deploy of 'one' is already in progress"):
            await deploys.run(ONE)
        deploys.end.set()
        assert [await first, await other] == ["deployed", "deployed"]
        assert await deploys.run(ONE) == "deployed"

    asyncio.run(scenario())


def test_one_that_is_cancelled_has_undone_what_it_began() -> None:
    """A caller that cancels it, even twice, continues afterwards; its client is told, and the next one may begin."""

    async def scenario() -> None:
        deploys = Deploys()
        assert await deploys.end_it(ONE) is False
        task = await deploys.start(ONE)
        assert list(await asyncio.gather(deploys.end_it(ONE), deploys.end_it(ONE))) == [True, True]
        assert deploys.did == ["begun", "cancelled, by another verb: True", "undone"]
        with pytest.raises(DeployFailed, match="deploy of app 'one' was cancelled"):
            await task
        assert task.cancelling() == 0
        deploys.end.set()
        assert await deploys.run(ONE) == "deployed"

    asyncio.run(scenario())


def test_the_end_of_the_daemon_is_no_calling_off() -> None:
    """Then a deploy is cancelled like everything else."""

    async def scenario() -> None:
        deploys = Deploys()
        task = await deploys.start(ONE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert deploys.did[1] == "cancelled, by another verb: False"
        assert await deploys.end_it(ONE) is False

    asyncio.run(scenario())


@pytest.mark.parametrize("by_whom", ["client", "deploy"])
def test_a_deletion_that_still_waits_never_strikes_later(by_whom: str) -> None:
    """Its client leaves, or somebody serves the app again: it erases nothing, whatever happens to the app then."""

    async def scenario() -> None:
        deploys = Deploys()
        deletion = asyncio.create_task(deploys.delete(ONE))
        await asyncio.sleep(0)
        if by_whom == "client":
            deletion.cancel()
            with pytest.raises(asyncio.CancelledError):
                await deletion
        deploy = asyncio.create_task(deploys.run(ONE))
        if by_whom == "deploy":
            with pytest.raises(Busy, match="the operation was cancelled for app 'one': it was served"):
                await deletion
        deploys.end.set()
        assert await deploy == "deployed"
        assert await deploys.end_it(ONE) is False
        assert deploys.did == ["waiting", "begun"]

    asyncio.run(scenario())


def test_an_erasure_that_has_begun_goes_on_to_its_end() -> None:
    """Without its client; a deploy is refused meanwhile, a second deletion waits for it."""

    async def scenario() -> None:
        deploys = Deploys()
        deletion = asyncio.create_task(deploys.delete(ONE))
        deploys.end.set()
        await deploys.erasing.wait()
        deletion.cancel()
        with pytest.raises(Busy, match="app 'one' is being deleted"):
            await deploys.run(ONE)
        assert await deploys.end_it(ONE) is False
        assert deploys.did == ["waiting", "erasing", "erased"]
        with pytest.raises(asyncio.CancelledError):
            await deletion

    asyncio.run(scenario())
