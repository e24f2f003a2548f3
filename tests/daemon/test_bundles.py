"""Code bundles while deploys go on: none that is needed is swept, the daemon does not stand still, nothing stays."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flyted.contract.errors import InvalidInput
from flyted.daemon.apps.bundles import Bundles
from flyted.plan.facts import ImageFact, Revision, StoredApp
from tests.values import app, spec


def memfd(data: bytes) -> tuple[int, str]:
    """A descriptor as flytectl sends it, and the digest."""
    fd = os.memfd_create("bundle")
    os.write(fd, data)
    return fd, hashlib.sha256(data).hexdigest()


def names(folder: Path) -> list[str]:
    """What is there."""
    return sorted(path.name for path in folder.iterdir())


def test_a_bundle_is_there_while_its_deploy_is_and_then_while_a_revision_needs_it(tmp_path: Path) -> None:
    """Sweeps come from other deploys meanwhile."""
    apps: list[StoredApp] = []
    bundles = Bundles(tmp_path, lambda: apps)
    fd, digest = memfd(b"code")

    async def scenario() -> None:
        async with bundles.held([digest], {digest: fd}):
            bundles.sweep()
            assert names(tmp_path) == [f"{digest}.tar.gz"]
            async with bundles.held([digest], {}):
                pass
            bundles.sweep()
            assert names(tmp_path) == [f"{digest}.tar.gz"]
        apps.append(app("a", bundle=digest))
        bundles.sweep()
        assert names(tmp_path) == [f"{digest}.tar.gz"]
        apps.clear()
        bundles.sweep()
        assert names(tmp_path) == []
        with pytest.raises(InvalidInput, match="did not come with the request"):
            async with bundles.held([digest], {}):
                raise AssertionError

    asyncio.run(scenario())
    os.close(fd)


def test_what_an_image_copies_is_kept_for_the_revision_that_serves_or_comes_up(tmp_path: Path) -> None:
    """An older one is never built again; its code is kept, as it may still drain."""
    made = {name: memfd(name.encode()) for name in ("code", "old", "now", "next", "failed")}

    def revision(number: int, status: str, folder: str) -> Revision:
        image = {"spec": {}, "folders": {"src": made[folder][1]}}
        return Revision(number, spec("a", image=image, bundle=made["code"][1]), ImageFact("/x"), "", status, "", 0)

    revisions = (
        revision(1, "ready", "old"), revision(2, "ready", "now"), revision(3, "failed", "failed"),
        revision(4, "pending", "next"),
    )  # fmt: skip
    stored = StoredApp(spec("a").key, "started", 2, revisions, 0, 0)
    bundles = Bundles(tmp_path, lambda: [stored])

    async def scenario() -> None:
        async with bundles.held([], {digest: fd for fd, digest in made.values()}):
            pass

    asyncio.run(scenario())
    bundles.sweep()
    assert names(tmp_path) == sorted(f"{made[name][1]}.tar.gz" for name in ("code", "now", "next"))
    for fd, _ in made.values():
        os.close(fd)


def test_a_build_holds_what_it_reads_when_its_client_has_left(tmp_path: Path) -> None:
    """To its end, however that is."""
    bundles = Bundles(tmp_path, list)
    fd, digest = memfd(b"source")

    async def scenario(end: Callable[[asyncio.Future[None]], object]) -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with bundles.held([digest], {digest: fd}):
            bundles.hold_until(ended, [digest])
        bundles.sweep()
        assert names(tmp_path) == [f"{digest}.tar.gz"]
        end(ended)
        await asyncio.sleep(0)
        bundles.sweep()
        assert names(tmp_path) == []

    for end in (asyncio.Future.cancel, lambda ended: ended.set_result(None)):
        asyncio.run(scenario(end))
    os.close(fd)


def test_one_bad_bundle_of_several_leaves_nothing(tmp_path: Path) -> None:
    """Also if it is the last one: the others go with the sweep that follows each request."""
    bundles = Bundles(tmp_path, list)
    (good, digest), (other, _) = memfd(b"good"), memfd(b"other")

    async def scenario() -> None:
        with pytest.raises(InvalidInput, match="does not match the announced digest"):
            async with bundles.held([digest, "b" * 64], {digest: good, "b" * 64: other}):
                raise AssertionError

    asyncio.run(scenario())
    bundles.sweep()
    assert names(tmp_path) == []
    os.close(good)
    os.close(other)


def test_the_loop_goes_on_while_a_bundle_is_copied(tmp_path: Path) -> None:
    """And a deploy that is cancelled in the middle leaves its descriptor only when nobody reads it any more."""
    bundles = Bundles(tmp_path, list)
    fd, digest = memfd(os.urandom(1 << 20) * 64)

    async def deploy() -> None:
        async with bundles.held([digest], {digest: fd}):
            pass

    async def scenario() -> None:
        copying = asyncio.create_task(deploy())
        turns = 0
        while not copying.done():
            await asyncio.sleep(0)
            turns += 1
            if turns == 2:
                copying.cancel()
                bundles.sweep()
        assert turns > 10
        assert copying.cancelled()

    asyncio.run(scenario())
    assert names(tmp_path) == [f"{digest}.tar.gz"], "it is whole, and goes with the next sweep"
    bundles.sweep()
    assert names(tmp_path) == []
    os.close(fd)
