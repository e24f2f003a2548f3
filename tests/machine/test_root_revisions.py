"""Two revisions of an app in an image's own root, side by side: each has its own code and files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.machine.kit.users import curl, forget_apps, give, serve

SOURCE = """
import time
import flyte
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment

app = FastAPI()

@app.get("/")
def root(s: float = 0):
    time.sleep(s)
    import root_words  # late: it has to be that of this revision
    return [root_words.WORD, open("root_words.txt").read()]

env = FastAPIAppEnvironment(
    name="root-revisions", app=app, requires_auth=False, include=["root_words.py", "root_words.txt"],
    image=flyte.Image.from_debian_base(python_version=(3, 11)).with_pip_packages("fastapi", "uvicorn")
    .with_commands(["true"]),
)
"""


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    forget_apps("root-revisions")
    yield
    forget_apps("root-revisions")


def deploy(word: str) -> str:
    give("root_words.py", f"WORD = {word!r}\n")
    give("root_words.txt", word)
    return serve(give("root_revisions.py", SOURCE))


def test_a_draining_revision_keeps_its_files() -> None:
    """A request that goes on during the deploy is answered by the code and the files that it began with."""
    url = deploy("old")

    async def drained() -> tuple[int, str]:
        slow = asyncio.create_task(asyncio.to_thread(curl, f"{url}/?s=12"))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(deploy, "new")
        assert await asyncio.to_thread(curl, url) == (200, '["new","new"]')
        assert not slow.done(), "the deploy took longer than the request"
        return await slow

    assert asyncio.run(drained()) == (200, '["old","old"]')
