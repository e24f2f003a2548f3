"""Apps without a file of their own: the SDK pickles what a script or notebook holds, and the app's unit reads it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from tests.machine.kit.pypi_flyte import PYTHON, python, stock
from tests.machine.kit.users import alice, answer, curl, forget_apps

pytestmark = pytest.mark.usefixtures("pypi_flyte")

APP = """
import os
from fastapi import FastAPI
from flyte.app.extras import FastAPIAppEnvironment
app = FastAPI()
words = {words!r}

@app.get("/")
def root():
    return [words, started]

started = []
image = flyte.Image.from_debian_base(python_version=(3, {minor})).with_pip_packages({packages})
env = FastAPIAppEnvironment(name="pickled-app", app=app, requires_auth=False, image=image)

@env.on_startup
async def begin():
    started.append("begun")

print(flyte.with_servecontext(interactive_mode=True).serve(env).endpoint)
"""
MINOR = sys.version_info[1]
"""Of the Python that pickles, which the image needs: Debian's."""


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    forget_apps("pickled-")
    yield
    forget_apps("pickled-")


def test_a_pickled_app_is_served() -> None:
    """With what its functions refer to; asleep and awake; changed, and served again."""
    for words in ("first", "second"):
        said = python(APP.format(words=words, minor=MINOR, packages="'fastapi', 'uvicorn'"))
        url = said.split()[-1]
        assert json.loads(curl(url)[1]) == [words, ["begun"]]
    alice("flytectl", "app", "sleep", "pickled-app")
    assert json.loads(curl(url)[1]) == ["second", ["begun"]]
    assert answer("app", "get", "pickled-app")["revision"] == 2


def test_an_image_without_what_was_pickled_is_told() -> None:
    """By the app's log and its page: Flyte's own command says that it failed."""
    script = f"import flyte\nflyte.init_from_config()\n{APP.format(words='x', minor=MINOR, packages=repr('httpx'))}"
    done = stock(str(PYTHON), "-c", script)
    assert done.returncode != 0
    reason = answer("app", "get", "pickled-app")["last_failure"]["reason"]
    assert f"cannot be loaded by the image's Python 3.{MINOR} (ModuleNotFoundError: No module named" in reason
    assert "the image needs the Python and the packages with which it was pickled" in reason
