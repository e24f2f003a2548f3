"""Code bundles while deploys go on: none that is needed is swept, the daemon does not stand still, nothing stays."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from flyted.contract.errors import InvalidInput
from flyted.daemon.apps.bundles import Bundles
from flyted.plan.facts import StoredApp
from tests.values import app


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
        async with bundles.held(digest, fd):
            bundles.sweep()
            assert names(tmp_path) == [f"{digest}.tar.gz"]
            async with bundles.held(digest, None):
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
            async with bundles.held(digest, None):
                raise AssertionError

    asyncio.run(scenario())
    os.close(fd)


def test_the_loop_goes_on_while_a_bundle_is_copied(tmp_path: Path) -> None:
    """And a deploy that is called off in the middle leaves its descriptor only when nobody reads it any more."""
    bundles = Bundles(tmp_path, list)
    fd, digest = memfd(os.urandom(1 << 20) * 64)

    async def deploy() -> None:
        async with bundles.held(digest, fd):
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
