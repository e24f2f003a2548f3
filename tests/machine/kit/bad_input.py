"""Files of alice's with something wrong in them, and a secret for one test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.machine.kit.users import alice, give

IMAGE = 'flyte.Image.from_debian_base(python_version=(3, 12)).with_pip_packages("fastapi", "uvicorn")'
HEAD = "import flyte\nfrom fastapi import FastAPI\nfrom flyte.app.extras import FastAPIAppEnvironment\n"
APP = 'app = FastAPI()\n@app.get("/")\ndef root() -> str:\n    return "{answer}"\n'


def file(options: str = "", *, name: str = "bad", body: str = "", answer: str = "one", image: str = IMAGE) -> str:
    """An app file of alice's with these further options of its environment."""
    text = HEAD + APP.replace("{answer}", answer) + body
    text += f'env = FastAPIAppEnvironment(name="{name}", app=app, image={image}, requires_auth=False, {options})\n'
    return give("bad/app.py", text)


@contextmanager
def secret(key: str, value: str, *scope: str) -> Iterator[None]:
    """A secret for one test."""
    alice("flytectl", "secret", "create", key, "-", *scope, typed=value)
    try:
        yield
    finally:
        alice("flytectl", "secret", "delete", "--yes", key, *scope)
